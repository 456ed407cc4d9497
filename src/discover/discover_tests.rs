use proptest::prelude::*;

use super::rank::overlap;
use super::*;
use crate::types::InputTensor;

const GRID: PatchGrid = PatchGrid { rows: 18, cols: 24, patch: 16 };

/// Small noise, the same in every run, in [-1, 1].
fn noise(at: usize) -> f32 {
    let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Patches that are one of some kinds, each a direction of its own, with noise.
fn scene(kind: impl Fn(usize, usize) -> usize) -> Features {
    let dim = 8;
    let mut data = vec![0f32; GRID.len() * dim];
    for patch in 0..GRID.len() {
        for d in 0..dim {
            let pure = f32::from(u8::from(d == kind(patch / GRID.cols, patch % GRID.cols)));
            data[patch * dim + d] = pure + 0.05 * noise(patch * dim + d);
        }
    }
    let mut features = Features::new(GRID, dim, data);
    features.normalise();
    features
}

/// Sky above, ground below, and a thing of 4 x 5 patches across both.
fn thing(row: usize, col: usize) -> usize {
    if (7..12).contains(&row) && (10..14).contains(&col) { 2 } else { usize::from(row >= 9) }
}

#[test]
fn a_thing_before_sky_and_ground_comes_first() {
    let found = salient(&scene(thing), 3);
    assert_eq!(found[0].bounds, [10, 7, 4, 5]);
    let covered: Vec<usize> = (0..GRID.len()).filter(|p| found[0].patches[*p]).collect();
    let truth: Vec<usize> = (0..GRID.len()).filter(|p| thing(p / GRID.cols, p % GRID.cols) == 2).collect();
    assert_eq!(covered, truth);
    // Of 854 x 480 pixels, a patch covers 35.6 x 26.7.
    let [x, y, w, h] = found[0].area(854, 480);
    let close = |a: f32, b: f32| (a - b).abs() < 0.01;
    assert!(close(x, 355.83) && close(y, 186.67) && close(w, 142.33) && close(h, 133.33), "{:?}", [x, y, w, h]);
    assert_eq!(found[0].mask(24, 18).bounds(), Some([10, 7, 4, 5]));
    assert_eq!(found[0].mask(24, 18).area(), 20);
}

#[test]
fn two_things_are_two_proposals() {
    let kind = |row, col| match (row, col) {
        (3..=6, 3..=6) => 2,
        (8..=12, 15..=19) => 3,
        _ => usize::from(row >= 14),
    };
    let mut found: Vec<[usize; 4]> = salient(&scene(kind), 2).into_iter().map(|p| p.bounds).collect();
    found.sort_unstable();
    assert_eq!(found, [[3, 3, 4, 4], [15, 8, 5, 5]]);
}

#[test]
fn what_runs_along_the_edge_is_background() {
    // The same patch of ground twice: in a corner, and inside.
    let kind = |row: usize, col: usize| match (row, col) {
        (0..5, 0..5) => 2,
        (8..12, 12..16) => 3,
        _ => 0,
    };
    assert_eq!(salient(&scene(kind), 1)[0].bounds, [12, 8, 4, 4]);
}

#[test]
fn a_frame_with_nothing_in_it_has_no_proposals() {
    let equal = Features::new(GRID, 2, [0.6, 0.8].repeat(GRID.len()));
    assert_eq!(salient(&equal, 5), []);
    assert_eq!(salient(&Features::zeros(GRID, 4), 5), []);
    assert_eq!(salient(&Features::zeros(PatchGrid { rows: 0, cols: 0, patch: 16 }, 4), 5), []);
    assert_eq!(salient(&Features::zeros(PatchGrid { rows: 1, cols: 1, patch: 16 }, 4), 5), []);
    assert_eq!(salient(&scene(thing), 0), []);
}

#[test]
fn what_lies_across_the_picture_comes_after_what_stands_in_it() {
    // Of one contrast; the strip has more patches.
    let kind = |row: usize, col: usize| match (row, col) {
        (3..=8, 3..=6) => 2,
        (12..=13, 8..=20) => 3,
        _ => 0,
    };
    let found: Vec<[usize; 4]> = salient(&scene(kind), 2).into_iter().map(|p| p.bounds).collect();
    assert_eq!(found, [[3, 3, 4, 6], [8, 12, 13, 2]]);
}

#[test]
fn broken_embeddings_are_plain_ones() {
    let mut broken = scene(thing);
    broken.data[3] = f32::NAN;
    broken.data[8 * 400] = f32::INFINITY;
    assert_eq!(salient(&broken, 1)[0].bounds, [10, 7, 4, 5]);
    assert_eq!(salient(&Features::new(GRID, 4, vec![f32::NAN; 4 * GRID.len()]), 5), []);
    assert_eq!(salient(&Features::new(GRID, 0, Vec::new()), 5), []);
    // Fewer than the grid has patches.
    broken.data.truncate(100);
    assert_eq!(salient(&broken, 5), []);
    broken.picture = textured(|x, y| (x, y), 0, 0.0);
    assert_eq!(moving(&broken, &broken, 5), []);
}

/// A fixed pattern of soft blots, some 2 cells across: the value at any point of the plane.
pub(super) fn blots(x: f32, y: f32) -> f32 {
    let corner = |col: f32, row: f32| {
        let bits = (col as i64 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (row as i64 as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mixed = (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 40) as f32 / (1u64 << 24) as f32
    };
    let (x, y) = (x / 9.0, y / 9.0);
    let (col, row) = (x.floor(), y.floor());
    let (u, v) = (x - col, y - row);
    let across = |row: f32| corner(col, row) * (1.0 - u) + corner(col + 1.0, row) * u;
    across(row) * (1.0 - v) + across(row + 1.0) * v
}

/// A picture of the size of the grid: blots, each pixel's of the place that `place` gives for it, and noise.
fn textured(place: impl Fn(f32, f32) -> (f32, f32), seed: usize, amount: f32) -> InputTensor {
    let (width, height) = (GRID.input_width(), GRID.input_height());
    let mut plane = Vec::with_capacity(width * height);
    for i in 0..width * height {
        let (x, y) = place((i % width) as f32, (i / width) as f32);
        plane.push(blots(x, y) + amount * noise(i + seed));
    }
    InputTensor { width, height, data: [&plane[..], &plane, &plane].concat() }
}

#[test]
fn what_moves_comes_before_what_stands_out() {
    // Two things; the larger stands and the smaller moves, while the camera pans by 10 pixels.
    let kind = |row: usize, col: usize| match (row, col) {
        (2..8, 3..9) => 2,
        (11..15, 15..19) => 3,
        _ => 0,
    };
    let small = |x: f32, y: f32| (240.0..304.0).contains(&x) && (176.0..240.0).contains(&y);
    let (mut before, mut now) = (scene(kind), scene(kind));
    now.picture = textured(|x, y| if small(x, y) { (y + 5000.0, x) } else { (x, y) }, 0, 0.02);
    before.picture = textured(
        |x, y| if small(x - 4.0, y + 12.0) { (y + 12.0 + 5000.0, x - 4.0) } else { (x + 10.0, y) },
        7_000_000,
        0.02,
    );
    assert_eq!(salient(&now, 1)[0].bounds, [3, 2, 6, 6]);
    let found = moving(&before, &now, 3);
    assert_eq!(found[0].bounds, [15, 11, 4, 4], "{:?}", found.iter().map(|p| (p.bounds, p.score)).collect::<Vec<_>>());
    assert!(found.iter().all(|p| overlap(p.bounds, [3, 2, 6, 6]) < 0.5));
}

#[test]
fn nothing_moves_where_only_the_camera_does() {
    let (mut before, mut now) = (scene(thing), scene(thing));
    now.picture = textured(|x, y| (x, y), 0, 0.05);
    // Still, but for noise; whole cells; between cells; along both axes; closer by a hundredth.
    for [dx, dy, zoom] in [[0.0, 0.0, 1.0], [8.0, 0.0, 1.0], [10.0, 0.0, 1.0], [-5.0, 7.0, 1.0], [3.0, -2.0, 1.01]] {
        before.picture = textured(|x, y| (x * zoom + dx, y * zoom + dy), 7_000_000, 0.05);
        let found: Vec<_> = moving(&before, &now, 5).into_iter().map(|p| (p.bounds, p.score)).collect();
        assert_eq!(found, [], "by {dx}, {dy}, {zoom}");
    }
}

#[test]
fn without_pictures_of_one_grid_nothing_is_known_to_move() {
    let mut whole = scene(thing);
    assert_eq!(moving(&whole, &whole, 5), []);
    whole.picture = textured(|x, y| (x, y), 0, 0.0);
    assert_eq!(moving(&whole, &scene(thing), 5), []);
    let grid = PatchGrid { rows: 9, ..GRID };
    assert_eq!(moving(&whole, &Features::zeros(grid, 8), 5), []);
    assert_eq!(moving(&Features::zeros(grid, 8), &Features::zeros(grid, 8), 5), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn proposals_are_what_they_say(
        rows in 1usize..14, cols in 1usize..14, limit in 0usize..6,
        values in prop::collection::vec(-1f32..1.0, 4 * 169),
    ) {
        let grid = PatchGrid { rows, cols, patch: 16 };
        let mut features = Features::new(grid, 4, values[..4 * grid.len()].to_vec());
        features.normalise();
        let found = salient(&features, limit);
        prop_assert!(found.len() <= limit);
        prop_assert_eq!(&found, &salient(&features, limit));
        for (at, proposal) in found.iter().enumerate() {
            let covered = proposal.patches.iter().filter(|p| **p).count();
            prop_assert!(covered >= 8 && 2 * covered <= grid.len());
            prop_assert!(proposal.score > 0.0 && proposal.score <= 1.0);
            prop_assert_eq!(proposal.mask(cols, rows).bounds(), Some(proposal.bounds));
            for later in &found[at + 1..] {
                prop_assert!(later.score <= proposal.score && overlap(later.bounds, proposal.bounds) < 0.5);
            }
        }
    }
}
