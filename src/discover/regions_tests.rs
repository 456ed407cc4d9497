use proptest::prelude::*;

use super::*;
use crate::types::{Features, PatchGrid};

fn features(rows: usize, cols: usize, dim: usize, values: &[f32]) -> Features {
    let grid = PatchGrid { rows, cols, patch: 16 };
    let mut features = Features::new(grid, dim, values[..grid.len() * dim].to_vec());
    features.normalise();
    features
}

/// The regions as the definition has them: after each join, every pair is looked at anew.
fn by_definition(features: &Centred) -> Vec<Vec<u32>> {
    let (cols, count) = (features.grid.cols as u32, features.grid.len() as u32);
    let touch = |a: &u32, b: &u32| {
        let (low, high) = (a.min(b), a.max(b));
        high - low == cols || (high - low == 1 && high % cols != 0)
    };
    let mean = |patches: &[u32]| features.mean(patches.iter().map(|p| *p as usize));
    let mut alive: Vec<Vec<u32>> = (0..count).map(|patch| vec![patch]).collect();
    let mut found = Vec::new();
    while alive.len() > 1 {
        let mut best: Option<(f64, usize, usize)> = None;
        for a in 0..alive.len() {
            for b in a + 1..alive.len() {
                if alive[a].iter().any(|p| alive[b].iter().any(|q| touch(p, q))) {
                    let cost = cost(&mean(&alive[a]), &mean(&alive[b]), [alive[a].len(), alive[b].len()]);
                    if best.is_none_or(|(least, ..)| cost < least) {
                        best = Some((cost, a, b));
                    }
                }
            }
        }
        let (_, a, b) = best.unwrap();
        let other = alive.remove(b);
        alive[a].extend(other);
        let mut region = alive[a].clone();
        region.sort_unstable();
        found.push(region);
    }
    found
}

fn sorted(regions: &Regions) -> Vec<Vec<u32>> {
    let sorted = |region: &[u32]| {
        let mut region = region.to_vec();
        region.sort_unstable();
        region
    };
    regions.iter().map(sorted).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn regions_are_those_of_the_definition(
        rows in 1usize..6, cols in 1usize..7, dim in 2usize..6, values in prop::collection::vec(-1f32..1.0, 180),
    ) {
        let centred = Centred::new(&features(rows, cols, dim, &values));
        prop_assert_eq!(sorted(&regions(&centred)), by_definition(&centred));
    }

    #[test]
    fn every_region_is_one_piece_and_they_nest(
        rows in 1usize..12, cols in 1usize..12, values in prop::collection::vec(-1f32..1.0, 432),
    ) {
        let features = features(rows, cols, 3, &values);
        let found = sorted(&regions(&Centred::new(&features)));
        prop_assert_eq!(found.len(), rows * cols - 1);
        for (at, region) in found.iter().enumerate() {
            let mut reached = vec![region[0]];
            let mut next = 0;
            while next < reached.len() {
                let (row, col) = (reached[next] as usize / cols, reached[next] as usize % cols);
                let near = |p: &&u32| (**p as usize / cols).abs_diff(row) + (**p as usize % cols).abs_diff(col) == 1;
                let new: Vec<u32> = region.iter().filter(near).filter(|p| !reached.contains(p)).copied().collect();
                reached.extend(new);
                next += 1;
            }
            prop_assert_eq!(reached.len(), region.len());
            for later in &found[at + 1..] {
                let held = region.iter().filter(|p| later.binary_search(p).is_ok()).count();
                prop_assert!(held == 0 || held == region.len());
            }
        }
    }
}

#[test]
fn a_frame_of_equal_patches_is_joined_in_the_order_of_its_patches() {
    let found = sorted(&regions(&Centred::new(&features(2, 2, 2, &[0.6; 8]))));
    assert_eq!(found, [vec![0, 1], vec![0, 1, 2], vec![0, 1, 2, 3]]);
    assert!(sorted(&regions(&Centred::new(&features(1, 1, 2, &[1.0, 0.0])))).is_empty());
    assert!(sorted(&regions(&Centred::new(&features(0, 3, 2, &[])))).is_empty());
}
