use super::affinity::tests::random_features;
use super::*;
use crate::propagate::SeedRule;
use crate::types::InputTensor;
use proptest::prelude::*;

pub(super) fn config(top_k: usize, context_frames: usize, radius: usize, window: Window) -> PropagateConfig {
    PropagateConfig {
        top_k,
        context_frames,
        radius,
        window,
        temperature: 0.1,
        seed: SeedRule::Area,
        min_max: false,
        refine_radius: 0.0,
        refine_epsilon: 0.002,
        zoom: 1.0,
        density: 1.0,
    }
}

/// Labels that differ from object to object and from patch to patch, in [0, 0.5], of a third of the patches or
/// of a tenth, by turns.
pub(super) fn seed_labels(grid: PatchGrid, seed: u64) -> Vec<f32> {
    let of = if seed.is_multiple_of(2) { 11 } else { 37 };
    (0..grid.len() as u64).map(|i| ((i * 7919 + seed * 104_729) % of).saturating_sub(of - 5) as f32 / 8.0).collect()
}

#[test]
fn what_is_found_again_is_traced_back_by_the_rule() {
    let grid = PatchGrid { rows: 5, cols: 7, patch: 16 };
    let frames: Vec<Features> = (0..6).map(|seed| random_features(grid, 8, seed)).collect();
    let config = config(3, 4, 2, Window::Square);
    let mut memory = Propagator::new(config.clone(), grid, 8);
    memory.step(&frames[0]);
    memory.add(ObjectKey(1), seed_labels(grid, 1), 0);
    frames[1..].iter().for_each(|frame| memory.step(frame));
    // Of so large an object nothing is left out.
    let found: Vec<f32> = seed_labels(grid, 2).iter().map(|label| (2.0 * label).ceil()).collect();
    assert!(found.iter().sum::<f32>() * recognise::SPREAD as f32 >= grid.len() as f32);
    memory.take_up(ObjectKey(1), &found);
    let newest =
        LabelField { grid, instances: 1, data: found.iter().flat_map(|label| [1.0 - label, *label]).collect() };
    let (_, object) = memory.find(ObjectKey(1)).unwrap();
    assert_eq!(object.context.len(), 4);
    assert_eq!(*object.context[3], found);
    for (plane, frame) in object.context.iter().zip(&frames[2..5]) {
        let expected = oracle(&config, frame, &[(&frames[5], &newest)]);
        for (patch, label) in plane.iter().enumerate() {
            assert!((label - expected.row(patch)[1]).abs() < 1e-5, "{patch}: {label}");
        }
    }
}

#[test]
fn a_grid_of_fewer_patches_than_matches_is_searched() {
    let grid = PatchGrid { rows: 1, cols: 2, patch: 16 };
    let mut memory = Propagator::new(config(5, 2, 1, Window::Square), grid, 4);
    memory.step(&random_features(grid, 4, 1));
    memory.add(ObjectKey(1), vec![1.0, 0.0], 0);
    memory.step(&random_features(grid, 4, 1));
    let labels = memory.look_everywhere(memory.exemplars(ObjectKey(1)).unwrap()).unwrap();
    assert!(labels[0] > labels[1], "{labels:?}");
}

/// Follows one object alone through `frames` by the oracle, and returns its labels after each.
fn follow_alone(config: &PropagateConfig, frames: &[Features], labels: &[f32]) -> Vec<Vec<f32>> {
    let field = |labels: &[f32]| LabelField {
        grid: frames[0].grid,
        instances: 1,
        data: labels.iter().flat_map(|v| [1.0 - v, *v]).collect(),
    };
    let mut memory = vec![(&frames[0], field(labels))];
    let mut followed = Vec::new();
    for frame in &frames[1..] {
        let borrowed: Vec<(&Features, &LabelField)> = memory.iter().map(|(f, l)| (*f, l)).collect();
        let next = oracle(config, frame, &borrowed);
        followed.push(next.data.chunks_exact(2).map(|row| row[1]).collect());
        memory.push((frame, next));
        if memory.len() > 1 + config.context_frames {
            memory.remove(1);
        }
    }
    followed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Objects tagged at various frames are each followed as the oracle follows them alone.
    #[test]
    fn no_object_disturbs_another(
        rows in 2usize..7, cols in 2usize..12, dim in 4usize..20, top_k in 1usize..6, context_frames in 0usize..5,
        radius in 1usize..6, circle: bool, seed: u64, late in 1usize..4, births in prop::collection::vec(0usize..6, 1..6),
    ) {
        let grid = PatchGrid { rows, cols, patch: 16 };
        let window = if circle { Window::Circle } else { Window::Square };
        let config = config(top_k, context_frames, radius, window);
        let frames: Vec<Features> = (0..9).map(|i| random_features(grid, dim, seed.wrapping_add(i))).collect();
        let mut memory = Propagator::new(config.clone(), grid, dim);
        let alone: Vec<Vec<Vec<f32>>> = births.iter().enumerate()
            .map(|(i, birth)| follow_alone(&config, &frames[*birth..], &seed_labels(grid, i as u64))).collect();
        for (t, frame) in frames.iter().enumerate() {
            memory.step(frame);
            for (i, birth) in births.iter().enumerate() {
                let key = ObjectKey(i as u64);
                if *birth == t {
                    prop_assert!(memory.add(key, seed_labels(grid, i as u64), 0));
                } else if *birth + late == t && late <= memory.reach_back() {
                    // One who points at a frame that has just passed gets what one who was quicker gets.
                    prop_assert!(memory.add(key, seed_labels(grid, i as u64), late));
                }
                if *birth < t {
                    let labels = memory.labels(key).unwrap();
                    for (a, b) in labels.iter().zip(&alone[i][t - birth - 1]) {
                        prop_assert!((a - b).abs() < 2e-4, "object {i} at {t}: {a} but alone {b}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_not_claimed_is_background() {
    let grid = PatchGrid { rows: 2, cols: 2, patch: 16 };
    let mut memory = Propagator::new(config(1, 2, 1, Window::Square), grid, 4);
    assert!(!memory.add(ObjectKey(1), vec![0.0; 4], 0), "there is no frame yet");
    memory.step(&random_features(grid, 4, 1));
    memory.add(ObjectKey(1), vec![1.0, 0.25, 0.0, 0.75], 0);
    memory.add(ObjectKey(2), vec![0.0, 0.5, 0.0, 0.75], 0);
    let mut field = LabelField::background(grid, 0);
    memory.field(&[ObjectKey(1), ObjectKey(2)], &mut field);
    assert_eq!(field.data, [0.0, 1.0, 0.0, 0.25, 0.25, 0.5, 1.0, 0.0, 0.0, 0.0, 0.75, 0.75]);
    memory.remove(ObjectKey(1));
    assert_eq!(memory.labels(ObjectKey(1)), None);
    assert!(memory.labels(ObjectKey(2)).is_some());
}

#[test]
fn pictures_are_not_remembered() {
    let (grid, dim) = (PatchGrid { rows: 3, cols: 4, patch: 8 }, 5);
    let mut memory = Propagator::new(config(5, 3, 2, Window::Square), grid, dim);
    let picture = InputTensor { width: 32, height: 24, data: vec![0.5; 3 * 32 * 24] };
    for _ in 0..3 {
        memory.step(&Features { picture: picture.clone(), ..Features::new(grid, dim, vec![0.3; grid.len() * dim]) });
    }
    assert_eq!(memory.remembered(1).unwrap().picture, InputTensor::default());
    assert_eq!(memory.remembered(0).unwrap().picture, InputTensor::default());
}
