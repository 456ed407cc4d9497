use proptest::prelude::*;

use super::super::tests::blots;
use super::*;

const GRID: PatchGrid = PatchGrid { rows: 12, cols: 16, patch: 16 };

/// A picture of the size of `grid`, each pixel from its place.
fn picture(grid: PatchGrid, value: impl Fn(f32, f32) -> f32) -> InputTensor {
    let (width, height) = (grid.input_width(), grid.input_height());
    let plane: Vec<f32> = (0..width * height).map(|i| value((i % width) as f32, (i / width) as f32)).collect();
    InputTensor { width, height, data: [&plane[..], &plane, &plane].concat() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A third of all patches go ways of their own, and shift nothing.
    #[test]
    fn the_camera_is_found_among_outliers(
        pan in prop::array::uniform2(-6f32..6.0), zoom in -2f32..2.0, roll in -2f32..2.0,
        own in prop::collection::vec(prop::array::uniform2(-9f32..9.0), 64),
    ) {
        let truth = |patch: usize| {
            let (x, y) = ((patch % 16) as f32 / 16.0 - 0.5, (patch / 16) as f32 / 12.0 - 0.5);
            [pan[0] + zoom * x - roll * y, pan[1] + zoom * y + roll * x]
        };
        let matches: Vec<Match> = (0..GRID.len())
            .map(|patch| {
                let shift = if patch % 3 == 0 { own[patch / 3] } else { truth(patch) };
                Match { shift, certainty: 1.0, difference: 0.0 }
            })
            .collect();
        let camera = Camera::fit(GRID, &matches);
        for patch in 0..GRID.len() {
            let (found, truth) = (camera.at(patch), truth(patch));
            for axis in 0..2 {
                prop_assert!((found[axis] - f64::from(truth[axis])).abs() < 0.25, "{patch}: {found:?}, {truth:?}");
            }
        }
    }
}

#[test]
fn a_patch_is_found_where_it_went() {
    // By 11 and -6 pixels: 2.75 and -1.5 cells. For a patch of 14 pixels, cells are not whole pixels apart.
    for patch in [16usize, 14] {
        let grid = PatchGrid { patch, ..GRID };
        let one = picture(grid, blots);
        let other = picture(grid, |x, y| blots(x - 11.0, y + 6.0));
        let pictures = Pictures::new(grid, &one, &other).unwrap();
        let cell = patch as f32 / 4.0;
        for at in [2 * 16 + 3, 5 * 16 + 8, 9 * 16 + 12] {
            let [x, y] = pictures.best(at).shift;
            assert!((x * cell - 11.0).abs() < 1.5 && (y * cell + 6.0).abs() < 1.5, "{patch}, {at}: {x}, {y}");
        }
    }
}

#[test]
fn differences_are_those_of_the_definition() {
    let grid = PatchGrid { rows: 3, cols: 4, patch: 4 };
    let (one, other) = (picture(grid, blots), picture(grid, |x, y| blots(y, x)));
    let pictures = Pictures::new(grid, &one, &other).unwrap();
    // A cell is a pixel here.
    let pixel = |of: &InputTensor, x: isize, y: isize| of.data[(y.clamp(0, 11) * 16 + x.clamp(0, 15)) as usize];
    for patch in 0..12 {
        for by in [[0, 0], [-11, 3], [11, -11], [2, 5]] {
            let (x0, y0) = ((patch % 4 * 4) as isize - 2, (patch / 4 * 4) as isize - 2);
            let mut sum = 0.0;
            for y in y0..y0 + 8 {
                for x in x0..x0 + 8 {
                    sum += 3.0 * (pixel(&one, x, y) - pixel(&other, x + by[0], y + by[1])).powi(2);
                }
            }
            let found = pictures.difference(patch, by);
            assert!((found - sum / 64.0).abs() < 1e-5, "{patch} {by:?}: {found}, {}", sum / 64.0);
        }
    }
}

#[test]
fn what_goes_along_with_the_camera_does_not_speak() {
    let inside = |x: f32, y: f32| (96.0..160.0).contains(&x) && (64.0..128.0).contains(&y);
    let one = picture(GRID, |x, y| if inside(x, y) { blots(x + 999.0, y) } else { blots(x, y) });
    // The camera pans by 8 pixels; the square goes the other way by 12.
    let other = picture(GRID, |x, y| if inside(x + 12.0, y) { blots(x + 12.0 + 999.0, y) } else { blots(x - 8.0, y) });
    let evidence = evidence(GRID, &one, &other).unwrap();
    let mean = |rows: std::ops::Range<usize>, cols: std::ops::Range<usize>| {
        let patches: Vec<f32> = rows.flat_map(|r| cols.clone().map(move |c| r * 16 + c)).map(|p| evidence[p]).collect();
        patches.iter().sum::<f32>() / patches.len() as f32
    };
    let (square, elsewhere) = (mean(5..7, 7..9), mean(9..12, 0..16));
    assert!(square > 0.5 && elsewhere < 0.05, "{square} {elsewhere}");
}

#[test]
fn pictures_that_say_nothing_give_nothing() {
    let (plain, missing) = (picture(GRID, |_, _| 0.3), InputTensor::default());
    assert_eq!(evidence(GRID, &plain, &plain), Some(vec![0.0; GRID.len()]));
    assert_eq!(evidence(GRID, &plain, &missing), None);
    assert_eq!(evidence(GRID, &missing, &plain), None);
    let broken = picture(GRID, |_, _| f32::NAN);
    assert!(evidence(GRID, &picture(GRID, blots), &broken).is_some());
}
