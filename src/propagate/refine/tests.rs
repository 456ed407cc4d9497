use super::*;
use crate::propagate::upsample::Upsampler;
use proptest::prelude::*;

const RULE: RefineRule = RefineRule { radius: 1.0, epsilon: 0.002 };

/// Numbers in [0, 1) that repeat.
fn random(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    }
}

fn picture(grid: PatchGrid, colour: impl Fn(usize, usize) -> [f32; 3]) -> InputTensor {
    let (width, height) = (grid.input_width(), grid.input_height());
    let data = (0..3).flat_map(|c| (0..width * height).map(move |at| (c, at)));
    InputTensor { width, height, data: data.map(|(c, at)| colour(at % width, at / width)[c]).collect() }
}

/// A disc in pixels, and the share of each patch that it covers.
fn disc(grid: PatchGrid, [x0, y0, radius]: [f32; 3]) -> (impl Fn(usize, usize) -> bool, Vec<f32>) {
    let inside = move |x: usize, y: usize| (x as f32 + 0.5 - x0).hypot(y as f32 + 0.5 - y0) < radius;
    let share = |patch: usize| {
        let (row, col) = (patch / grid.cols * grid.patch, patch % grid.cols * grid.patch);
        let pixels = (0..grid.patch * grid.patch).filter(|i| inside(col + i % grid.patch, row + i / grid.patch));
        pixels.count() as f32 / (grid.patch * grid.patch) as f32
    };
    (inside, (0..grid.len()).map(share).collect())
}

fn field(grid: PatchGrid, planes: &[Vec<f32>]) -> LabelField {
    let mut field = LabelField::background(grid, planes.len());
    for (patch, labels) in field.data.chunks_exact_mut(planes.len() + 1).enumerate() {
        for (label, plane) in labels[1..].iter_mut().zip(planes) {
            *label = plane[patch];
        }
        labels[0] = 1.0 - labels[1..].iter().sum::<f32>();
    }
    field
}

fn overlap(a: &Mask, b: &Mask) -> f64 {
    let both = a.intersection_area(b);
    both as f64 / (a.area() + b.area() - both) as f64
}

/// Bright on dark, with some noise.
fn bright(inside: bool, noise: f32) -> [f32; 3] {
    let light = if inside { 0.8 } else { -0.4 };
    [light + 0.1 * noise, light - 0.1 * noise, 0.3]
}

#[test]
fn masks_follow_the_edges_of_the_picture() {
    let grid = PatchGrid { rows: 12, cols: 14, patch: 16 };
    let size = [grid.input_width(), grid.input_height()];
    for (at, circle) in [[100.0, 90.0, 40.0], [60.5, 120.0, 25.0], [200.0, 20.0, 50.0]].into_iter().enumerate() {
        let (inside, shares) = disc(grid, circle);
        let mut noise = random(at as u64);
        let noise: Vec<f32> = (0..size[0] * size[1]).map(|_| noise()).collect();
        let picture = picture(grid, |x, y| bright(inside(x, y), noise[y * size[0] + x]));
        // Labels as propagation has them: blurred beyond a patch.
        let blurred = |patch: usize| {
            let (row, col) = (patch / grid.cols, patch % grid.cols);
            let around = (row.saturating_sub(1)..(row + 2).min(grid.rows))
                .flat_map(|row| (col.saturating_sub(1)..(col + 2).min(grid.cols)).map(move |col| (row, col)));
            let labels: Vec<f32> = around.map(|(row, col)| shares[row * grid.cols + col]).collect();
            labels.iter().sum::<f32>() / labels.len() as f32
        };
        let field = field(grid, &[(0..grid.len()).map(blurred).collect()]);
        let truth = Mask::from_fn(size[0], size[1], &inside);
        let plain = &Upsampler::default().masks(&field, size[0], size[1], false)[0];
        let refined = &Refiner::default().masks(&field, &picture, size, RULE)[0];
        let (before, after) = (overlap(plain, &truth), overlap(refined, &truth));
        assert!(after > 0.96 && after > before + 0.02, "{circle:?}: {before} and {after}");
    }
}

#[test]
fn without_edges_masks_stay_what_labels_make_of_them() {
    let grid = PatchGrid { rows: 12, cols: 14, patch: 16 };
    let (_, shares) = disc(grid, [110.0, 90.0, 50.0]);
    let field = field(grid, &[shares]);
    let plain = &Upsampler::default().masks(&field, 448, 384, false)[0];
    for colour in [[0.0; 3], [0.3, -1.0, 2.0]] {
        let refined = &Refiner::default().masks(&field, &picture(grid, |_, _| colour), [448, 384], RULE)[0];
        let same = overlap(plain, refined);
        assert!(same > 0.98, "{colour:?}: {same}");
    }
}

#[test]
fn what_is_not_there_has_no_mask() {
    let grid = PatchGrid { rows: 4, cols: 5, patch: 8 };
    let grey = picture(grid, |x, y| [x as f32 * 0.1, y as f32 * 0.1, 0.0]);
    let mut refiner = Refiner::default();
    assert!(refiner.masks(&LabelField::background(grid, 0), &grey, [40, 32], RULE).is_empty());
    let (_, shares) = disc(grid, [20.0, 16.0, 12.0]);
    let masks = refiner.masks(&field(grid, &[vec![0.0; 20], shares, vec![0.01; 20]]), &grey, [80, 64], RULE);
    assert_eq!(masks[0], Mask::empty(80, 64));
    assert!(!masks[1].is_empty());
    assert_eq!(masks[2], Mask::empty(80, 64), "labels of a hundredth are noise");
}

#[test]
fn a_picture_of_no_numbers_gives_no_mask_and_a_lamp_in_the_dark_does_no_harm() {
    let grid = PatchGrid { rows: 4, cols: 5, patch: 8 };
    let (_, shares) = disc(grid, [20.0, 16.0, 12.0]);
    let field = field(grid, &[shares]);
    for value in [f32::NAN, f32::INFINITY] {
        let torn = picture(grid, |x, _| if x == 17 { [value; 3] } else { [0.5; 3] });
        assert!(Refiner::default().masks(&field, &torn, [40, 32], RULE)[0].is_empty(), "{value}");
    }
    // Between the samples of which the picture's deviation is found.
    let lamp = picture(grid, |x, y| if (x, y) == (39, 31) { [3.0; 3] } else { [-1.0; 3] });
    let (plain, dark) = (
        &Upsampler::default().masks(&field, 40, 32, false)[0],
        &Refiner::default().masks(&field, &lamp, [40, 32], RULE)[0],
    );
    assert!(overlap(plain, dark) > 0.95, "{}", overlap(plain, dark));
}

/// By Cramer's rule.
fn solve(system: [[f64; 3]; 3], right: [f64; 3]) -> [f64; 3] {
    let determinant = |[a, b, c]: [[f64; 3]; 3]| {
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
    };
    [0, 1, 2].map(|column| {
        let mut replaced = system;
        replaced.iter_mut().zip(right).for_each(|(row, value)| row[column] = value);
        determinant(replaced) / determinant(system)
    })
}

/// The definition: every window's function by sums over its cells in double precision, every pixel's label from there.
fn labels_by_definition(
    field: &LabelField,
    picture: &InputTensor,
    plane: usize,
    cell: usize,
    radius: usize,
) -> Vec<f64> {
    let (width, height) = (picture.width, picture.height);
    let (cols, rows) = (width.div_ceil(cell), height.div_ceil(cell));
    let value = |c: usize, x: usize, y: usize| f64::from(picture.data[(c * height + y) * width + x]);
    let samples: Vec<(usize, usize)> =
        (0..height).step_by(cell).flat_map(|y| (0..width).step_by(cell).map(move |x| (x, y))).collect();
    let moments = [0, 1, 2].map(|c| {
        let mean = samples.iter().map(|(x, y)| value(c, *x, *y)).sum::<f64>() / samples.len() as f64;
        let variance =
            samples.iter().map(|(x, y)| (value(c, *x, *y) - mean).powi(2)).sum::<f64>() / samples.len() as f64;
        (mean, variance.sqrt().max(1e-3))
    });
    let colour = |at: usize| {
        let (x0, y0) = (at % cols * cell, at / cols * cell);
        let (x1, y1) = ((x0 + cell).min(width), (y0 + cell).min(height));
        [0, 1, 2].map(|c| {
            let sum: f64 = (y0..y1).flat_map(|y| (x0..x1).map(move |x| (x, y))).map(|(x, y)| value(c, x, y)).sum();
            (sum / ((x1 - x0) * (y1 - y0)) as f64 - moments[c].0) / moments[c].1
        })
    };
    let colours: Vec<[f64; 3]> = (0..cols * rows).map(colour).collect();
    let place = |at: usize, patches: usize| {
        let position =
            ((at as f64 + 0.5) * cell as f64 / field.grid.patch as f64 - 0.5).clamp(0.0, (patches - 1) as f64);
        (position as usize, (position as usize + 1).min(patches - 1), position.fract())
    };
    let label = |at: usize| {
        let ((left, right, along), (above, below, down)) =
            (place(at % cols, field.grid.cols), place(at / cols, field.grid.rows));
        let of = |row: usize, col: usize| f64::from(field.row(row * field.grid.cols + col)[plane]);
        let row = |row: usize| of(row, left) * (1.0 - along) + of(row, right) * along;
        row(above) * (1.0 - down) + row(below) * down
    };
    let labels: Vec<f64> = (0..cols * rows).map(label).collect();
    let window = |at: usize| {
        let (x, y) = (at % cols, at / cols);
        let (x0, x1) = (x.saturating_sub(radius), (x + radius + 1).min(cols));
        let (y0, y1) = (y.saturating_sub(radius), (y + radius + 1).min(rows));
        (y0..y1).flat_map(move |y| (x0..x1).map(move |x| y * cols + x)).collect::<Vec<usize>>()
    };
    let functions: Vec<[f64; 4]> = (0..cols * rows)
        .map(|at| {
            let cells = window(at);
            let mean = |f: &dyn Fn(usize) -> f64| cells.iter().map(|i| f(*i)).sum::<f64>() / cells.len() as f64;
            let means = [0, 1, 2].map(|c| mean(&|i| colours[i][c]));
            let of_label = mean(&|i| labels[i]);
            let with = |f: &dyn Fn(usize) -> f64, c: usize| mean(&|i| colours[i][c] * f(i)) - means[c] * mean(f);
            let mut system = [0, 1, 2].map(|a| [0, 1, 2].map(|b| with(&|i| colours[i][b], a)));
            (0..3).for_each(|c| system[c][c] += f64::from(RULE.epsilon));
            let slopes = solve(system, [0, 1, 2].map(|c| with(&|i| labels[i], c)));
            let offset = of_label - (0..3).map(|c| slopes[c] * means[c]).sum::<f64>();
            [slopes[0], slopes[1], slopes[2], offset]
        })
        .collect();
    let mean = |of: &dyn Fn(usize) -> f64, at: usize| {
        let cells = window(at);
        cells.iter().map(|i| of(*i)).sum::<f64>() / cells.len() as f64
    };
    let once: Vec<f64> = (0..cols * rows).map(|at| mean(&|i| labels[i], at)).collect();
    let averaged: Vec<[f64; 4]> = (0..cols * rows)
        .map(|at| {
            let [red, green, blue, offset] = [0, 1, 2, 3].map(|c| mean(&|i| functions[i][c], at));
            [red, green, blue, offset + labels[at] - mean(&|i| once[i], at)]
        })
        .collect();
    let between = |pixel: usize, cells: usize| {
        let position = ((pixel as f64 + 0.5) / cell as f64 - 0.5).clamp(0.0, (cells - 1) as f64);
        (position as usize, (position as usize + 1).min(cells - 1), position.fract())
    };
    let at_pixel = |at: usize| {
        let (x, y) = (at % width, at / width);
        let ((left, right, along), (above, below, down)) = (between(x, cols), between(y, rows));
        let coefficient = |c: usize| {
            let row =
                |row: usize| averaged[row * cols + left][c] * (1.0 - along) + averaged[row * cols + right][c] * along;
            row(above) * (1.0 - down) + row(below) * down
        };
        let standard = |c: usize| (value(c, x, y) - moments[c].0) / moments[c].1;
        (0..3).map(|c| coefficient(c) * standard(c)).sum::<f64>() + coefficient(3)
    };
    (0..width * height).map(at_pixel).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn masks_are_those_of_the_definition(
        rows in 2usize..6, cols in 2usize..6, patch in 3usize..18, instances in 1usize..4, grey: bool, apart: bool, seed: u64,
    ) {
        // Objects that are small and apart: their regions are parts of the picture, and overlap or not.
        let (rows, cols, patch) = if apart { (8 + 3 * rows, 8 + 3 * cols, 4) } else { (rows, cols, patch) };
        let grid = PatchGrid { rows, cols, patch };
        let mut next = random(seed);
        let mut planes: Vec<Vec<f32>> =
            (0..instances).map(|_| (0..grid.len()).map(|_| (next() - 0.3).max(0.0) / instances as f32).collect()).collect();
        if apart {
            for plane in &mut planes {
                let (row, col) = ((next() * rows as f32) as usize, (next() * cols as f32) as usize);
                for (at, label) in plane.iter_mut().enumerate() {
                    let near = (at / cols).abs_diff(row) < 2 && (at % cols).abs_diff(col) < 2;
                    *label = if near { *label } else { 0.0 };
                }
            }
        }
        let field = field(grid, &planes);
        let noise: Vec<f32> = (0..3 * grid.len() * patch * patch).map(|_| next()).collect();
        let width = grid.input_width();
        let picture = picture(grid, |x, y| [0, 1, 2].map(|c| if grey { 0 } else { c }).map(|c| {
            let light = if (x / 7 + y / 5) % 2 == c % 2 { 1.0 } else { -0.5 };
            light + 0.3 * noise[c * grid.len() * patch * patch + y * width + x]
        }));
        let cell = (patch / CELLS_A_PATCH).max(1);
        let radius = ((patch as f32 / cell as f32).round() as usize).max(1);
        let labels: Vec<Vec<f64>> =
            (1..=instances).map(|k| labels_by_definition(&field, &picture, k, cell, radius)).collect();
        let mut refiner = Refiner::default();
        // Again, on the buffers that the first left.
        for _ in 0..2 {
            let masks = refiner.masks(&field, &picture, [width, grid.input_height()], RULE);
            let pixels: Vec<Vec<bool>> = masks.iter().map(Mask::to_pixels).collect();
            for at in 0..width * grid.input_height() {
                let background = 1.0 - labels.iter().map(|plane| plane[at]).sum::<f64>();
                let mut of_all: Vec<f64> = labels.iter().map(|plane| plane[at]).collect();
                of_all.push(background);
                let best = (0..=instances).max_by(|a, b| of_all[*a].total_cmp(&of_all[*b])).unwrap();
                let second = (0..=instances).filter(|k| *k != best).map(|k| of_all[k]).fold(f64::MIN, f64::max);
                // What is as good as equal may go to either.
                if of_all[best] - second > 1e-3 {
                    let owner = (0..instances).find(|k| pixels[*k][at]).unwrap_or(instances);
                    prop_assert_eq!(owner, best, "pixel {} of {}: {:?}", at, width, of_all);
                }
            }
        }
    }
}
