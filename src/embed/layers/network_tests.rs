//! Networks of layers: frames side by side, and tokens used again.

use std::sync::Arc;

use super::attention::{Rows, Tokens};
use super::tests::{Numbers, linear, norm};
use super::*;
use crate::embed::blocks::{Activation, Before};
use crate::embed::kernels::ROW_STEP;

pub const PATCH: usize = 5;
/// Of pictures: [height, width]. More tokens than a block of attention has.
pub const SIZE: [usize; 2] = [10 * PATCH, 13 * PATCH];

/// Two blocks over 130 patches and a token before them.
pub fn network(numbers: &mut Numbers) -> Network {
    let (width, heads, hidden, channels) = (32, 2, 96, 3);
    let mut layers = Vec::new();
    for activation in [Activation::Gelu, Activation::SwiGlu] {
        let before = Before::Norm(norm(numbers, width));
        let (qkv, _) = linear(numbers, width, 3 * width, before.clone());
        let (proj, _) = linear(numbers, width, width, Before::Nothing);
        let sizes = AttentionSizes { heads, width: width / heads, used: width / heads };
        layers.push(Layer::Attention(Arc::new(Attention { sizes, qkv, scale: 0.5, proj })));
        let wide = if activation == Activation::Gelu { hidden } else { 2 * hidden };
        let (into, _) = linear(numbers, width, wide, before);
        let factors = numbers.many(hidden, 0.5).iter().map(|v| 1.0 + v).collect();
        let (out, _) = linear(numbers, hidden, width, Before::Factors(factors));
        layers.push(Layer::Mlp(Arc::new(Mlp::new(into, activation, out))));
    }
    layers.push(Layer::Norm(Arc::new(norm(numbers, width))));
    let (linear, _) = linear(numbers, (channels * PATCH * PATCH).next_multiple_of(ROW_STEP), width, Before::Nothing);
    let tokens = 1 + SIZE[0] / PATCH * (SIZE[1] / PATCH);
    let added = numbers.many(tokens * width, 0.2);
    let patches = Arc::new(PatchEmbedding { patch: PATCH, channels, linear: Arc::new(linear), added, prefix: 1 });
    Network { patches, layers }
}

pub fn picture(numbers: &mut Numbers) -> Vec<f32> {
    numbers.many(3 * SIZE[0] * SIZE[1], 1.0)
}

fn workers(threads: usize) -> Workers {
    Workers::new(crate::embed::kernels::supported()[0].as_ref(), threads).unwrap()
}

fn whole(network: &Network, workers: &Workers, data: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    network.run(workers, &[Picture { data, size: SIZE }], &mut out);
    out
}

/// Other pixels in patches `patches` of a picture.
fn change(data: &mut [f32], patches: &[usize], by: f32) {
    let [height, width] = SIZE;
    for patch in patches {
        let (row, column) = (patch / (width / PATCH), patch % (width / PATCH));
        for line in 0..3 * PATCH {
            let (channel, y) = (line / PATCH, line % PATCH);
            let at = (channel * height + row * PATCH + y) * width + column * PATCH;
            data[at..at + PATCH].iter_mut().for_each(|v| *v += by);
        }
    }
}

const ALWAYS: Gate = Gate { change: [0.01; 3], refresh: 1000, most: 1.0 };

#[test]
fn a_network_is_its_layers_one_after_the_other() {
    let numbers = &mut Numbers::new(5);
    let (network, data) = (network(numbers), picture(numbers));
    assert!(network.fits(SIZE));
    let workers = workers(1);
    let mut tokens = vec![0.0; network.tokens() * network.dim()];
    network.patches.run(&workers, &data, SIZE, Rows::All(network.tokens()), &mut tokens);
    for layer in &network.layers {
        match layer {
            Layer::Attention(attention) => attention.run_on_residual(&workers, &mut Tokens::default(), &mut tokens),
            Layer::Mlp(mlp) => mlp.run_on_residual(&workers, &mut tokens),
            Layer::Norm(norm) => norm.run(&workers, &mut tokens),
            Layer::Linear(..) => unreachable!("this network has none"),
        }
    }
    assert_eq!(whole(&network, &workers, &data), tokens);
}

#[test]
fn operations_are_those_of_every_product() {
    let network = network(&mut Numbers::new(5));
    // 130 patches of 75 numbers, which are filled up to 80, and a token before them; 32 wide.
    let embedded = 130 * 80 * 32;
    let attention = 131 * 32 * (3 * 32 + 32) + 2 * 131 * 131 * 32;
    let (gelu, gated) = (131 * 32 * 96 * 2, 131 * 32 * 96 * 3);
    assert_eq!(network.operations(), 2 * (embedded + 2 * attention + gelu + gated));
}

#[test]
fn frames_side_by_side_are_each_what_they_are_alone() {
    let numbers = &mut Numbers::new(6);
    let (network, pictures) = (network(numbers), [picture(numbers), picture(numbers), picture(numbers)]);
    let workers = workers(2);
    let mut together = Vec::new();
    network.run(&workers, &pictures.each_ref().map(|data| Picture { data, size: SIZE }), &mut together);
    let alone: Vec<f32> = pictures.iter().flat_map(|data| whole(&network, &workers, data)).collect();
    assert_eq!(together, alone);
}

#[test]
fn a_picture_that_stays_is_not_computed_again() {
    let numbers = &mut Numbers::new(7);
    let (network, data) = (network(numbers), picture(numbers));
    let (workers, memory) = (workers(1), &mut Memory::default());
    let picture = Picture { data: &data, size: SIZE };
    let (tokens, computed) = network.run_reusing(&workers, picture, ALWAYS, memory);
    let expected = whole(&network, &workers, &data);
    assert_eq!((tokens, computed), (&expected[..], 131));
    let (tokens, computed) = network.run_reusing(&workers, picture, ALWAYS, memory);
    assert_eq!((&tokens[32..], computed), (&expected[32..], 1), "but for the token before the patches");
    memory.forget();
    assert_eq!(network.run_reusing(&workers, picture, ALWAYS, memory).1, 131);
}

#[test]
fn what_changed_is_computed_among_what_stayed() {
    let numbers = &mut Numbers::new(8);
    let (network, before) = (network(numbers), picture(numbers));
    let (workers, memory) = (workers(2), &mut Memory::default());
    // In the first block of attention, at its end, and in the last.
    let changed = [3usize, 4, 62, 63, 129];
    let mut after = before.clone();
    change(&mut after, &changed, 0.4);
    let old = network.run_reusing(&workers, Picture { data: &before, size: SIZE }, ALWAYS, memory).0.to_vec();
    let (got, computed) = network.run_reusing(&workers, Picture { data: &after, size: SIZE }, ALWAYS, memory);
    assert_eq!(computed, 1 + changed.len());

    // Plainly: all tokens through every layer, and those that stayed put back to what they were in the frame before.
    let rows = Rows::All(network.tokens());
    let mut states = [&before, &after].map(|data| {
        let mut tokens = vec![0.0; network.tokens() * network.dim()];
        network.patches.run(&workers, data, SIZE, rows, &mut tokens);
        tokens
    });
    let is_new = |token: usize| token == 0 || changed.contains(&(token - 1));
    for layer in &network.layers {
        let [old, new] = &mut states;
        for (token, (new, old)) in new.chunks_exact_mut(32).zip(old.chunks_exact(32)).enumerate() {
            if !is_new(token) {
                new.copy_from_slice(old);
            }
        }
        for tokens in [old, new] {
            match layer {
                Layer::Attention(attention) => attention.run_on_residual(&workers, &mut Tokens::default(), tokens),
                Layer::Mlp(mlp) => mlp.run_on_residual(&workers, tokens),
                Layer::Norm(norm) => norm.run(&workers, tokens),
                Layer::Linear(..) => unreachable!("this network has none"),
            }
        }
    }
    for (token, got) in got.chunks_exact(32).enumerate() {
        let expected = if is_new(token) { &states[1] } else { &old };
        assert_eq!(got, &expected[token * 32..][..32], "token {token}");
    }
}

#[test]
fn what_creeps_is_noticed_and_noise_is_not() {
    let numbers = &mut Numbers::new(9);
    let (network, mut data) = (network(numbers), picture(numbers));
    let (workers, memory) = (workers(1), &mut Memory::default());
    let gate = Gate { change: [0.05; 3], ..ALWAYS };
    let mut run = |data: &[f32]| network.run_reusing(&workers, Picture { data, size: SIZE }, gate, memory).1;
    run(&data);
    change(&mut data, &[40], 0.03);
    assert_eq!(run(&data), 1, "less than what counts");
    change(&mut data, &[40], 0.03);
    assert_eq!(run(&data), 2, "a second step of the same size: more than what counts since it was computed");
    change(&mut data, &[40], -0.03);
    assert_eq!(run(&data), 1, "it is measured from there on");
    change(&mut data, &[40], 0.03);
    data.iter_mut().for_each(|v| *v += numbers.next() * 0.04);
    assert_eq!(run(&data), 1);
}

#[test]
fn much_change_or_time_computes_everything() {
    let numbers = &mut Numbers::new(10);
    let (network, mut data) = (network(numbers), picture(numbers));
    let (workers, memory) = (workers(1), &mut Memory::default());
    let gate = Gate { change: [0.05; 3], refresh: 3, most: 0.5 };
    let mut run = |data: &[f32]| network.run_reusing(&workers, Picture { data, size: SIZE }, gate, memory).1;
    assert_eq!([run(&data), run(&data), run(&data), run(&data), run(&data)], [131, 1, 1, 131, 1]);
    change(&mut data, &(0..66).collect::<Vec<_>>(), 0.2);
    assert_eq!(run(&data), 131, "66 of 130 are more than half");
    assert_eq!(run(&data), 1, "and a new count begins");
    data.iter_mut().for_each(|v| *v = f32::NAN);
    assert_eq!(run(&data), 131, "what cannot be compared has changed");
}

/// Where the middles of patches lie in the picture: down and across, in [0, 1].
fn ramp([rows, columns]: [usize; 2]) -> Vec<[f32; 2]> {
    let at = |index: usize, count: usize| (index as f32 + 0.5) / count as f32;
    (0..rows * columns).map(|i| [at(i / columns, rows), at(i % columns, columns)]).collect()
}

#[test]
fn positions_are_stretched_over_another_grid() {
    let numbers = &mut Numbers::new(11);
    let mut network = network(numbers);
    let (width, from, to) = (32, [10, 13], [15, 26]);
    let mut patches = network.patches.stretched(from, from);
    let prefix = patches.added[..width].to_vec();
    let value = |[down, across]: [f32; 2], dim: usize| 3.0 * down + 5.0 * across + dim as f32;
    patches.added.truncate(width);
    patches.added.extend(ramp(from).into_iter().flat_map(|place| (0..width).map(move |dim| value(place, dim))));
    network.patches = Arc::new(patches);
    let same = network.stretched(from, from);
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(near(&same.patches.added, &network.patches.added), "on its own grid it stays as it is");

    let stretched = network.stretched(from, to);
    assert_eq!(stretched.tokens(), 1 + to[0] * to[1]);
    let size = [to[0] * PATCH, to[1] * PATCH];
    assert!(stretched.fits(size) && !stretched.fits(SIZE));
    let (before, positions) = stretched.patches.added.split_at(width);
    assert_eq!(before, prefix, "tokens before the patches have no place");
    for (i, (got, place)) in positions.chunks_exact(width).zip(ramp(to)).enumerate() {
        let inside = |at: usize, count: usize| (3..count - 3).contains(&at);
        // At the borders a cubic sees one side alone.
        if inside(i / to[1], to[0]) && inside(i % to[1], to[1]) {
            let expected: Vec<f32> = (0..width).map(|dim| value(place, dim)).collect();
            assert!(near(got, &expected), "patch {i}: {got:?} but {expected:?}");
        }
    }
    let (mut out, data) = (Vec::new(), numbers.many(3 * size[0] * size[1], 1.0));
    stretched.run(&workers(1), &[Picture { data: &data, size }], &mut out);
    assert!(out.len() == stretched.tokens() * width && out.iter().all(|v| v.is_finite()));
}
