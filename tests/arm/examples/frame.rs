//! The backbone of a frame alone, ViT-S/14 of random numbers: what an emulator counts instructions of, and how two
//! builds are timed beside each other.
//!
//! `frame HEIGHT WIDTH FRAMES [THREADS]` takes sides in pixels, multiples of 14, and prints the kernel, the median and
//! the least milliseconds of a frame, and a number that is the same wherever all computed the same.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use tagalong_kernels::embed::blocks::{Activation, Before, NormWeights};
use tagalong_kernels::embed::kernels::{Panels, ROW_STEP, chosen};
use tagalong_kernels::embed::layers::{
    Attention, AttentionSizes, Layer, Linear, Mlp, Network, PatchEmbedding, Picture, Workers,
};

const PATCH: usize = 14;
const DIM: usize = 384;
const HEADS: usize = 6;
const BLOCKS: usize = 12;

struct Numbers(u64);

impl Numbers {
    /// In [-1, 1).
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn many(&mut self, count: usize, mean: f32, size: f32) -> Vec<f32> {
        (0..count).map(|_| mean + self.next() * size).collect()
    }

    fn norm(&mut self) -> NormWeights {
        NormWeights { gamma: self.many(DIM, 1.0, 0.2), beta: self.many(DIM, 0.0, 0.1), epsilon: 1e-6 }
    }

    /// Weights whose products are about as large as what comes in, times `gain`.
    fn linear(&mut self, inputs: usize, outputs: usize, before: Before, gain: f32) -> Linear {
        let whole: Vec<i8> = (0..inputs * outputs).map(|_| (self.next() * 127.0).round() as i8).collect();
        let scale = gain * 3f32.sqrt() / (127.0 * (inputs as f32).sqrt());
        let weights = Panels::pack(&whole, inputs, outputs);
        Linear { before, weights, scales: vec![scale; outputs], bias: self.many(outputs, 0.0, 0.05), inputs }
    }
}

/// As deep and wide as ViT-S, with GELU.
fn network(numbers: &mut Numbers, [height, width]: [usize; 2]) -> Network {
    let mut layers = Vec::new();
    for _ in 0..BLOCKS {
        let before = Before::Norm(numbers.norm());
        let qkv = numbers.linear(DIM, 3 * DIM, before, 1.5);
        let proj = numbers.linear(DIM, DIM, Before::Nothing, 0.3);
        let sizes = AttentionSizes { heads: HEADS, width: DIM / HEADS, used: DIM / HEADS };
        layers.push(Layer::Attention(Arc::new(Attention { sizes, qkv, scale: 0.125, proj })));
        let before = Before::Norm(numbers.norm());
        let into = numbers.linear(DIM, 4 * DIM, before, 1.0);
        let out = numbers.linear(4 * DIM, DIM, Before::Nothing, 0.3);
        layers.push(Layer::Mlp(Arc::new(Mlp::new(into, Activation::Gelu, out))));
    }
    layers.push(Layer::Norm(Arc::new(numbers.norm())));
    let tokens = 1 + height / PATCH * (width / PATCH);
    let linear = numbers.linear((3 * PATCH * PATCH).next_multiple_of(ROW_STEP), DIM, Before::Nothing, 1.0);
    let added = numbers.many(tokens * DIM, 0.0, 0.1);
    Network { patches: Arc::new(PatchEmbedding { patch: PATCH, channels: 3, linear: Arc::new(linear), added, prefix: 1 }), layers }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).map_while(|word| word.parse().ok()).collect();
    let (size, frames, threads) = match numbers[..] {
        [height, width, frames] => ([height, width], frames, 1),
        [height, width, frames, threads] => ([height, width], frames, threads),
        _ => panic!("frame HEIGHT WIDTH FRAMES [THREADS]"),
    };
    let kernel = chosen().unwrap();
    let workers = Workers::new(kernel, threads).unwrap();
    let mut numbers = Numbers(14);
    let network = network(&mut numbers, size);
    assert!(network.fits(size), "sides are multiples of {PATCH}");
    let data = numbers.many(3 * size[0] * size[1], 0.0, 1.0);
    let mut tokens = Vec::new();
    let mut times: Vec<f64> = (0..frames)
        .map(|_| {
            let start = Instant::now();
            network.run(&workers, &[Picture { data: &data, size }], &mut tokens);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let mut hasher = DefaultHasher::new();
    tokens.iter().for_each(|v| v.to_bits().hash(&mut hasher));
    let (median, least) = (times.get(times.len() / 2), times.first());
    let ms = |time: Option<&f64>| time.map_or("-".to_owned(), |time| format!("{time:.1}"));
    println!("{:<12} {:>7} {:>7}  {:016x}", kernel.name(), ms(median), ms(least), hasher.finish());
}
