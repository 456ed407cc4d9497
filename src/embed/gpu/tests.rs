//! Each kernel against what it is in plain floats, on random shapes; and whole networks.

use proptest::prelude::*;
use wgpu::{BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor, MapMode};

use super::device::{Array, Gpu, Number};
use super::kernels::{Dispatch, OfPatches, Product, Then};
use super::*;
use crate::embed::blocks::{Activation, Attention, Block, Matrix, Mlp, NormWeights, Patches};

/// A program compiles for seconds, and for more beside other tests.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// A processor, if there is one; `TAGALONG_GPU_TESTS=required` has it an error that there is none.
pub fn gpu() -> Option<Gpu> {
    match Gpu::open(true, PATIENCE, None) {
        Ok(gpu) => Some(gpu),
        Err(problem) if std::env::var_os("TAGALONG_GPU_TESTS").is_some_and(|value| value == "required") => {
            panic!("{problem}")
        }
        Err(problem) => {
            eprintln!("SKIPPED, NO GRAPHICS PROCESSOR: {problem}");
            None
        }
    }
}

/// What a dispatch leaves in the first `count` of `out`.
fn run(gpu: &Gpu, dispatch: &Dispatch, out: &Array, count: usize) -> Vec<f32> {
    let bytes = (count * out.number.bytes()).next_multiple_of(4);
    let read = gpu.buffer("read", bytes as u64, BufferUsages::MAP_READ | BufferUsages::COPY_DST).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&CommandEncoderDescriptor::default());
    let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
    dispatch.record(&mut pass);
    drop(pass);
    encoder.copy_buffer_to_buffer(&out.buffer, 0, &read, 0, read.size());
    let submission = gpu.queue().submit([encoder.finish()]);
    read.map_async(MapMode::Read, .., |_| ());
    gpu.wait(submission, true).unwrap();
    let view = read.get_mapped_range(..).unwrap();
    let mut numbers: Vec<f32> = match out.number {
        Number::F32 => view.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Number::F16 => view.as_chunks().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect(),
    };
    numbers.truncate(count);
    numbers
}

/// Numbers there, and here as what they are there.
fn fill(gpu: &Gpu, number: Number, numbers: &mut [f32]) -> Array {
    if number == Number::F16 {
        numbers.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
    }
    gpu.filled("test", number, numbers).unwrap()
}

/// Those that this processor computes in.
fn kinds() -> impl Strategy<Value = Number> {
    prop_oneof![Just(Number::F32), Just(Number::F16)]
}

/// Numbers of -1 to 1 as if by chance.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn assert_near(got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let off = (f64::from(*got) - expected).abs();
        assert!(off <= tolerance * (1.0 + expected.abs()), "number {at} is {got}, and not {expected}");
    }
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2))
}

/// A row of `inner` numbers times (inner, columns), plus a bias.
fn product(row: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f64> {
    let columns = bias.len();
    let column = |c: usize| -> f64 {
        let products = row.iter().enumerate().map(|(k, v)| f64::from(*v) * f64::from(weights[k * columns + c]));
        products.sum::<f64>() + f64::from(bias[c])
    };
    (0..columns).map(column).collect()
}

fn then_of(then: Then, sums: Vec<f64>, there: &[f32]) -> Vec<f64> {
    match then {
        Then::Store => sums,
        Then::Gelu => sums.into_iter().map(gelu).collect(),
        Then::Add => sums.into_iter().zip(there).map(|(sum, there)| sum + f64::from(*there)).collect(),
        Then::SwiGlu => {
            let silu = |x: f64| x / (1.0 + (-x).exp());
            sums.chunks_exact(4).flat_map(|four| [silu(four[0]) * four[2], silu(four[1]) * four[3]]).collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_product_is_that_of_floats(
        rows in 1usize..300,
        inner in 1usize..40,
        columns in 1usize..40,
        then in prop_oneof![Just(Then::Store), Just(Then::Gelu), Just(Then::SwiGlu), Just(Then::Add)],
        number in kinds(),
        seed: u64,
    ) {
        let Some(gpu) = gpu().filter(|gpu| gpu.has(number)) else { return Ok(()) };
        let (inner, columns) = (4 * inner, 4 * columns);
        let [mut input, mut weights, mut bias, mut there] =
            [rows * inner, inner * columns, columns, rows * columns].map(|count| numbers(seed ^ count as u64, count));
        let by = 1.0 / (inner as f32).sqrt();
        weights.iter_mut().for_each(|weight| *weight *= by);
        // What is added to is the residual stream.
        let written = if then == Then::Add { Number::F32 } else { number };
        let out_columns = if then == Then::SwiGlu { columns / 2 } else { columns };
        let (a, b) = (fill(&gpu, number, &mut input), fill(&gpu, number, &mut weights));
        let (c, out) = (fill(&gpu, Number::F32, &mut bias), fill(&gpu, written, &mut there));
        let dispatch = gpu.matmul(Product { rows, inner, columns }, then, [&a, &b, &c], &out).unwrap();
        let got = run(&gpu, &dispatch, &out, rows * out_columns);
        let expected: Vec<f64> = input
            .chunks_exact(inner)
            .enumerate()
            .flat_map(|(row, numbers)| then_of(then, product(numbers, &weights, &bias), &there[row * columns..][..columns]))
            .collect();
        assert_near(&got, &expected, if number == Number::F16 { 4e-3 } else { 2e-5 });
    }

    #[test]
    fn patches_are_embedded_where_their_tokens_are(
        patch in 1usize..17,
        rows in 1usize..9,
        across in 1usize..9,
        columns in 1usize..30,
        prefix in 0usize..6,
        number in kinds(),
        seed: u64,
    ) {
        let Some(gpu) = gpu().filter(|gpu| gpu.has(number)) else { return Ok(()) };
        let (columns, size) = (4 * columns, [rows * patch, across * patch]);
        let numbers_of_patch = 3 * patch * patch;
        let inner = numbers_of_patch.next_multiple_of(4);
        let (patches, tokens) = (rows * across, prefix + rows * across);
        let mut picture = numbers(seed, 3 * size[0] * size[1]);
        let mut weights = numbers(seed ^ 1, numbers_of_patch * columns);
        let by = 1.0 / (inner as f32).sqrt();
        weights.iter_mut().for_each(|weight| *weight *= by);
        weights.resize(inner * columns, 0.0);
        let (mut bias, mut added) = (numbers(seed ^ 2, columns), numbers(seed ^ 3, tokens * columns));
        let mut there = vec![7.0; tokens * columns];
        let b = fill(&gpu, number, &mut weights);
        let [a, c, d, out] =
            [&mut picture, &mut bias, &mut added, &mut there].map(|numbers| fill(&gpu, Number::F32, numbers));
        let product_of = Product { rows: patches, inner, columns };
        let of = OfPatches { size, patch, prefix };
        let dispatch = gpu.embed_patches(product_of, of, [&a, &b, &c, &d], &out).unwrap();
        let got = run(&gpu, &dispatch, &out, tokens * columns);
        let mut expected = vec![7.0; prefix * columns];
        for at in 0..patches {
            let pixel = |number: usize| {
                let (channel, y, x) = (number / (patch * patch), number / patch % patch, number % patch);
                picture[(channel * size[0] + at / across * patch + y) * size[1] + at % across * patch + x]
            };
            let row: Vec<f32> = (0..numbers_of_patch).map(pixel).collect();
            let added = &added[(prefix + at) * columns..];
            expected.extend(product(&row, &weights, &bias).iter().zip(added).map(|(sum, added)| sum + f64::from(*added)));
        }
        assert_near(&got, &expected, if number == Number::F16 { 4e-3 } else { 2e-5 });
    }

    #[test]
    fn a_norm_is_that_of_floats(rows in 1usize..300, fours in 1usize..400, far in 0usize..3, number in kinds(), seed: u64) {
        let Some(gpu) = gpu().filter(|gpu| gpu.has(number)) else { return Ok(()) };
        let width = 4 * fours;
        let far = [0.0, 10.0, 300.0][far];
        let mut input: Vec<f32> = numbers(seed, rows * width).iter().map(|v| v + far).collect();
        let (mut gamma, mut beta) = (numbers(seed ^ 1, width), numbers(seed ^ 2, width));
        let [a, b, c] = [&mut input, &mut gamma, &mut beta].map(|numbers| fill(&gpu, Number::F32, numbers));
        let out = gpu.array("test", number, rows * width).unwrap();
        let dispatch = gpu.norm([rows, width], 1e-6, [&a, &b, &c], &out).unwrap();
        let got = run(&gpu, &dispatch, &out, rows * width);
        let normal = |row: &[f32]| -> Vec<f64> {
            let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / width as f64;
            let variance = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / width as f64;
            let scaled = |(at, v): (usize, &f32)| {
                (f64::from(*v) - mean) / (variance + 1e-6).sqrt() * f64::from(gamma[at]) + f64::from(beta[at])
            };
            row.iter().enumerate().map(scaled).collect()
        };
        let expected: Vec<f64> = input.chunks_exact(width).flat_map(normal).collect();
        let rounded = if number == Number::F16 { 1e-3 } else { 0.0 };
        assert_near(&got, &expected, rounded + if far > 100.0 { 1e-3 } else { 1e-4 });
    }

    #[test]
    fn attention_is_that_of_floats(
        tokens in 1usize..200,
        heads in 1usize..4,
        fours in 1usize..33,
        sharp in 0usize..3,
        number in kinds(),
        seed: u64,
    ) {
        let Some(gpu) = gpu().filter(|gpu| gpu.has(number)) else { return Ok(()) };
        // A driver that is a program compiles wider heads in floats of 16 bits for minutes.
        let width = 4 * if number == Number::F16 { fours.div_ceil(2) } else { fours };
        let stride = heads * width;
        let mut input = numbers(seed, tokens * 3 * stride);
        // Scores of up to hundreds: one key takes all, and which is told by floats of 32 bits alone.
        let by = [1.0, 8.0, if number == Number::F16 { 1.0 } else { 40.0 }][sharp] / (width as f32).sqrt();
        input.chunks_exact_mut(3 * stride).for_each(|token| token[..stride].iter_mut().for_each(|v| *v *= by));
        let a = fill(&gpu, number, &mut input);
        let out = gpu.array("test", number, tokens * stride).unwrap();
        let at = |token: usize, part: usize, head: usize| &input[(3 * token + part) * stride + head * width..][..width];
        let dispatch = gpu.attention([tokens, heads, width], &a, &out).unwrap();
        let got = run(&gpu, &dispatch, &out, tokens * stride);
        let mut expected = Vec::new();
        for token in 0..tokens {
            for head in 0..heads {
                let query = at(token, 0, head);
                let dot = |key: usize| query.iter().zip(at(key, 1, head)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                let scores: Vec<f64> = (0..tokens).map(dot).collect();
                let most = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
                let total: f64 = weights.iter().sum();
                let gathered = |number: usize| {
                    weights.iter().enumerate().map(|(key, w)| w * f64::from(at(key, 2, head)[number])).sum::<f64>() / total
                };
                expected.extend((0..width).map(gathered));
            }
        }
        assert_near(&got, &expected, if number == Number::F16 { 1e-2 } else { 1e-4 });
    }
}

#[test]
fn unchecked_shaders_are_the_same() {
    let (Some(checked), Some(mut unchecked)) = (gpu(), gpu()) else { return };
    unchecked.uncheck();
    let networks = [resident(checked, Number::F32).1, resident(unchecked, Number::F32).1];
    let [checked, unchecked] = networks.each_ref().map(|network| {
        let mut out = Vec::new();
        network.run(&numbers(1, 3 * 30 * 25), &mut out).unwrap();
        out
    });
    assert_near(&unchecked, &checked.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), 1e-5);
}

#[test]
fn what_a_driver_refuses_is_an_error_and_not_a_panic() {
    let Some(mut gpu) = gpu() else { return };
    gpu.set_largest_buffer(1 << 20);
    let problem = gpu.filled("weights of a layer", Number::F32, &vec![0.0; 1 << 20]).err().unwrap();
    assert!(problem.contains("weights of a layer") && problem.contains("4 MiB"), "{problem}");
    let problem = gpu.checked(|| {
        Ok(gpu.device().create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl("fn main( {".into()),
        }))
    });
    assert!(problem.is_err());
    gpu.sound().expect("what was asked for and refused is no fault of the device");
}

/// A network of two blocks, which a picture of 6 x 5 patches goes through.
fn resident(gpu: Gpu, number: Number) -> (Resident, GpuNetwork) {
    let (width, hidden, patch, prefix) = (32, 48, 5, 2);
    let mut seed = 0;
    let mut some = |count: usize, size: f32| -> Vec<f32> {
        seed += 1;
        numbers(seed, count).iter().map(|v| size * v).collect()
    };
    let mut matrix = |inputs: usize, outputs: usize| Matrix {
        weights: some(inputs * outputs, 0.2),
        inputs,
        scales: some(outputs, 1.0),
        bias: some(outputs, 0.1),
    };
    let norm = || NormWeights { gamma: vec![1.0; 32], beta: vec![0.1; 32], epsilon: 1e-6 };
    let mut blocks = Vec::new();
    for activation in [Activation::Gelu, Activation::SwiGlu] {
        let (qkv, proj) = (matrix(width, 3 * width), matrix(width, width));
        blocks.push(Block::Attention(Attention {
            norm: norm(),
            heads: 2,
            width: 16,
            qkv,
            scale: 0.25,
            factors: None,
            proj,
        }));
        let into = matrix(width, if activation == Activation::Gelu { hidden } else { 2 * hidden });
        blocks.push(Block::Mlp(Mlp { norm: norm(), into, activation, factors: None, out: matrix(hidden, width) }));
    }
    blocks.push(Block::Norm(norm()));
    let (rows, across) = (6, 5);
    let matrix = matrix(3 * patch * patch, width);
    let added = some((prefix + rows * across) * width, 0.5);
    let patches = Patches { patch, channels: 3, matrix, added, prefix };
    let mut resident = Resident::new(gpu, number);
    let network = resident.network(patches, blocks, [rows * patch, across * patch]).unwrap();
    (resident, network)
}

/// All of a network in floats of 16 bits is near to all of it in those of 32.
#[test]
fn half_the_bits_lose_little() {
    let Some((gpu, other)) = gpu().zip(gpu()).filter(|(gpu, _)| gpu.has(Number::F16)) else { return };
    let networks = [resident(gpu, Number::F32).1, resident(other, Number::F16).1];
    let [whole, half] = networks.each_ref().map(|network| {
        let mut out = Vec::new();
        network.run(&numbers(1, 3 * 30 * 25), &mut out).unwrap();
        out
    });
    assert_ne!(whole, half);
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = |(a, b): (&[f32], &[f32])| product(a, b) / (product(a, a) * product(b, b)).sqrt();
    let cosines: Vec<f64> = whole.chunks_exact(32).zip(half.chunks_exact(32)).map(cosine).collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    assert!(mean >= 0.9995, "{mean}");
}

#[test]
fn a_device_that_is_lost_says_so() {
    let Some(gpu) = gpu() else { return };
    let (resident, network) = resident(gpu, Number::F32);
    let (picture, mut out) = (numbers(1, 3 * 30 * 25), Vec::new());
    network.run(&picture, &mut out).unwrap();
    let first = out.clone();
    network.run(&picture, &mut out).unwrap();
    assert_eq!(out, first, "nothing is left of the frame before");
    resident.gpu().lose();
    let problem = network.run(&picture, &mut out).unwrap_err();
    assert!(problem.contains("lost"), "{problem}");
    assert!(!resident.hangs());
}

#[test]
fn a_device_that_does_not_answer_is_not_waited_for() {
    let Some(mut gpu) = gpu() else { return };
    gpu.set_patience(std::time::Duration::ZERO);
    let (resident, network) = resident(gpu, Number::F32);
    let problem = network.run(&numbers(1, 3 * 30 * 25), &mut Vec::new()).unwrap_err();
    assert!(problem.contains("did not answer"), "{problem}");
    assert!(resident.hangs());
}

/// A block takes seven dispatches; patch embedding and the last norm one each.
#[test]
fn a_block_takes_few_dispatches() {
    let Some(gpu) = gpu() else { return };
    assert_eq!(resident(gpu, Number::F32).1.dispatches(), 1 + 2 * 7 + 1);
}

#[test]
fn what_was_compiled_is_kept_and_what_is_damaged_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Gpu::open(true, PATIENCE, Some(folder.path()));
    if gpu().is_none() {
        return;
    }
    let files = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let run = || {
        let (_, network) = resident(open().unwrap(), Number::F32);
        let mut out = Vec::new();
        network.run(&numbers(1, 3 * 30 * 25), &mut out).unwrap();
        out
    };
    let expected = run();
    let kept = files();
    assert!(kept.len() == 1 && kept[0].extension().is_some_and(|extension| extension == "pipelines"), "{kept:?}");
    assert_eq!(run(), expected, "from the file");
    let whole = std::fs::read(&kept[0]).unwrap();
    for damaged in [&whole[..whole.len() / 2], &[], &[0; 100]] {
        std::fs::write(&kept[0], damaged).unwrap();
        assert_eq!(run(), expected);
        assert!(std::fs::metadata(&kept[0]).unwrap().len() > 100, "it was made again");
    }
}
