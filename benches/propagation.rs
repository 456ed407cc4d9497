//! Propagation at 480x848, patch 16, D = 192, radius 12, a reference and 7 context frames, on one core.
//!
//! `cargo bench --bench propagation` first prints how many of the window's own products are done in a second (products
//! outside of the window are not counted), beside this core's measured multiply-add peak in 32-bit floats, which
//! integer products may surpass; then divan's timings. With `TAGALONG_REFERENCE_PYTHON` naming an interpreter that has
//! NumPy and OpenCV, and `TAGALONG_REFERENCE` the folder of `propagate.py`, the published rule in NumPy is timed on the
//! same embeddings in the same run.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use tagalong::propagate::affinity::{self, Keys, Matches, Reach, Tiles};
use tagalong::propagate::{ObjectKey, PropagateConfig, Propagator, SeedRule, Window};
use tagalong::types::{Features, PatchGrid};

const GRID: PatchGrid = PatchGrid { rows: 30, cols: 53, patch: 16 };
const DIM: usize = 192;
const FRAMES: usize = 8;
const RADIUS: usize = 12;
const TOP_K: usize = 5;

fn main() {
    summary();
    divan::main();
}

/// Embeddings that drift a little from frame to frame, as a video's do.
fn video(frames: usize) -> Vec<Features> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut current = Features::zeros(GRID, DIM);
    current.data.iter_mut().for_each(|v| *v = random());
    (0..frames)
        .map(|_| {
            current.data.iter_mut().for_each(|v| *v = 0.9 * *v + 0.3 * random());
            let mut frame = current.clone();
            frame.normalise();
            frame
        })
        .collect()
}

/// Multiply-adds of all pairs within the window, over one memory frame.
fn products_per_frame() -> f64 {
    let within =
        |size: usize| -> usize { (0..size).map(|i| (i + RADIUS + 1).min(size) - i.saturating_sub(RADIUS)).sum() };
    (within(GRID.rows) * within(GRID.cols) * DIM) as f64
}

fn config() -> PropagateConfig {
    PropagateConfig {
        top_k: TOP_K,
        context_frames: FRAMES - 1,
        radius: RADIUS,
        window: Window::Square,
        temperature: 0.1,
        seed: SeedRule::Area,
        min_max: false,
        refine_radius: 0.0,
        refine_epsilon: 0.002,
        zoom: 1.0,
        density: 1.0,
    }
}

/// A memory that is full, with one object in it.
fn filled(video: &[Features]) -> Propagator {
    let mut memory = Propagator::new(config(), GRID, DIM);
    memory.step(&video[0]);
    memory.add(ObjectKey(1), (0..GRID.len()).map(|i| f32::from(u8::from(i % 53 > 20 && i % 53 < 30))).collect(), 0);
    video[1..FRAMES].iter().for_each(|frame| memory.step(frame));
    memory
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn time(rounds: usize, mut work: impl FnMut()) -> f64 {
    work();
    let once = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    median((0..rounds).map(|_| once(&mut work)).collect())
}

fn summary() {
    let video = video(FRAMES + 1);
    let keys: Vec<Keys> = video[..FRAMES].iter().map(Keys::new).collect();
    let frames: Vec<(u32, &Keys)> = keys.iter().enumerate().map(|(i, k)| (i as u32, k)).rev().collect();
    let queries = Keys::new(&video[FRAMES]);
    let mut tiles = Tiles::default();
    let reach = Reach { radius: RADIUS, window: Window::Square };
    let flops = 2.0 * products_per_frame() * FRAMES as f64;
    let peak = (0..5).map(|_| peak_flops()).fold(0.0, f64::max);
    println!("f32 multiply-add peak of this core: {:.1} GFLOP/s", peak / 1e9);
    for kernel in affinity::kernels() {
        let mut matches = Matches::default();
        let seconds = time(15, || {
            matches.reset(GRID.len(), TOP_K);
            tiles.pack(&queries, None);
            affinity::search(kernel.as_ref(), &queries, &tiles, &frames, reach, &mut matches);
        });
        let rate = flops / seconds;
        println!(
            "search, {:10}: {:6.2} ms, {:6.1} G operations a second within the window, {:5.1}% of that peak",
            kernel.name(),
            seconds * 1e3,
            rate / 1e9,
            100.0 * rate / peak
        );
    }
    let mut memory = filled(&video);
    let seconds = time(15, || memory.step(&video[FRAMES]));
    println!("whole step         : {:6.2} ms, {:5.1}% of that peak", seconds * 1e3, 100.0 * flops / seconds / peak);
    match reference_seconds() {
        Ok(reference) => {
            println!(
                "propagate.py       : {:6.0} ms, {:.1} times as long as the whole step",
                reference * 1e3,
                reference / seconds
            );
        }
        Err(why) => println!("propagate.py was not timed: {why}"),
    }
}

/// The published rule in NumPy on embeddings like these, on one thread.
fn reference_seconds() -> Result<f64, String> {
    let python = std::env::var("TAGALONG_REFERENCE_PYTHON").map_err(|_| "TAGALONG_REFERENCE_PYTHON is not set")?;
    let folder = std::env::var("TAGALONG_REFERENCE").map_err(|_| "TAGALONG_REFERENCE is not set")?;
    let script = format!(
        "import sys, time; sys.path.insert(0, {folder:?})\n\
         import numpy as np, propagate as p\n\
         rng = np.random.default_rng(0)\n\
         def unit(): e = rng.standard_normal(({n}, {DIM})).astype(np.float32); return e / np.linalg.norm(e, axis=1, keepdims=True)\n\
         y, x = np.divmod(np.arange({n}), {cols})\n\
         window = (abs(y[:, None] - y) <= {RADIUS}) & (abs(x[:, None] - x) <= {RADIUS})\n\
         memory = [(unit(), np.eye(2, dtype=np.float32)[rng.integers(0, 2, {n})]) for _ in range({FRAMES})]\n\
         query = unit(); times = []\n\
         for _ in range(5):\n\
         \x20 t = time.perf_counter(); p.propagate(query, memory, window, {TOP_K}, 0.1); times.append(time.perf_counter() - t)\n\
         print(sorted(times)[2])\n",
        n = GRID.len(),
        cols = GRID.cols,
    );
    let output = Command::new(python)
        .args(["-c", &script])
        .envs([("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1")])
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Floating-point operations a second of independent fused multiply-adds in registers.
fn peak_flops() -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: AVX-512F is there.
            return unsafe { peak_avx512() };
        }
        if is_x86_feature_detected!("fma") {
            // SAFETY: AVX and FMA are there.
            return unsafe { peak_fma() };
        }
    }
    peak_portable()
}

const PEAK_ROUNDS: usize = 20_000_000;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn peak_avx512() -> f64 {
    use std::arch::x86_64::*;
    let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(1e-3)));
    let mut sums = [_mm512_set1_ps(black_box(1.0)); 12];
    let start = Instant::now();
    for _ in 0..PEAK_ROUNDS {
        sums.iter_mut().for_each(|s| *s = _mm512_fmadd_ps(*s, a, b));
    }
    let seconds = start.elapsed().as_secs_f64();
    black_box(sums);
    (PEAK_ROUNDS * 12 * 16 * 2) as f64 / seconds
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,fma")]
fn peak_fma() -> f64 {
    use std::arch::x86_64::*;
    let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(1e-3)));
    let mut sums = [_mm256_set1_ps(black_box(1.0)); 12];
    let start = Instant::now();
    for _ in 0..PEAK_ROUNDS {
        sums.iter_mut().for_each(|s| *s = _mm256_fmadd_ps(*s, a, b));
    }
    let seconds = start.elapsed().as_secs_f64();
    black_box(sums);
    (PEAK_ROUNDS * 12 * 8 * 2) as f64 / seconds
}

fn peak_portable() -> f64 {
    let (a, b) = (black_box(0.999f32), black_box(1e-3f32));
    let mut sums = [black_box(1.0f32); 64];
    let start = Instant::now();
    for _ in 0..PEAK_ROUNDS / 4 {
        sums.iter_mut().for_each(|s| *s = *s * a + b);
    }
    let seconds = start.elapsed().as_secs_f64();
    black_box(sums);
    (PEAK_ROUNDS / 4 * 64 * 2) as f64 / seconds
}

#[divan::bench]
fn step(bencher: divan::Bencher) {
    let video = video(FRAMES + 1);
    let mut memory = filled(&video);
    bencher.bench_local(|| memory.step(&video[FRAMES]));
}

#[divan::bench]
fn pack_keys(bencher: divan::Bencher) {
    let video = video(1);
    let mut keys = Keys::new(&video[0]);
    bencher.bench_local(|| keys.pack(&video[0]));
}

#[divan::bench(args = [1, 4, 16, 64])]
fn step_with_objects(bencher: divan::Bencher, objects: u64) {
    let video = video(FRAMES + 1);
    let mut memory = Propagator::new(config(), GRID, DIM);
    memory.step(&video[0]);
    for key in 0..objects {
        let labels = (0..GRID.len()).map(|i| f32::from(u8::from(i as u64 / 24 == key))).collect();
        memory.add(ObjectKey(key), labels, 0);
    }
    video[1..FRAMES].iter().for_each(|frame| memory.step(frame));
    bencher.bench_local(|| memory.step(&video[FRAMES]));
}

/// Objects that were each tagged on a frame of their own.
#[divan::bench(args = [1, 4, 16, 64], sample_count = 30)]
fn step_with_reference_frames(bencher: divan::Bencher, objects: usize) {
    let video = video(objects + FRAMES);
    let mut memory = Propagator::new(config(), GRID, DIM);
    for (key, frame) in video[..objects].iter().enumerate() {
        memory.step(frame);
        let labels = (0..GRID.len()).map(|i| f32::from(u8::from(i / 24 == key))).collect();
        memory.add(ObjectKey(key as u64), labels, 0);
    }
    video[objects..].iter().for_each(|frame| memory.step(frame));
    bencher.bench_local(|| memory.step(&video[objects]));
}
