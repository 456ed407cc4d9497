//! Every kernel against the oracle, and every set of lanes against plain arithmetic in f64.

use super::epilogues::*;
use super::lanes::Lanes;
use super::packing::*;
use super::passes::*;
use super::*;

/// A small generator, so that a failure repeats.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    /// In [-1, 1).
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 30) as f32 - 1.0
    }
}

/// A left matrix as bytes of this encoding.
fn encoded(numbers: &[u8], encoding: u8) -> Vec<u8> {
    numbers.iter().map(|byte| byte ^ encoding).collect()
}

fn product(kernel: &dyn Kernel, left: (&[u8], usize, usize), right: Right) -> Vec<i32> {
    let (numbers, stride, rows) = left;
    let bytes = encoded(numbers, kernel.encoding());
    let width = right.panel_count() * PANEL + 3;
    let mut out = vec![-7; rows.next_multiple_of(ROW_STEP) * width];
    Engaged::new(kernel).multiply(Left { bytes: &bytes, stride, rows }, right, &mut out, width);
    let used = right.panel_count() * PANEL;
    assert!(out.chunks_exact(width).all(|row| row[used..] == [-7; 3]), "{}: what lies behind a row", kernel.name());
    out.chunks_exact(width).take(rows).flat_map(|row| row[..used].to_vec()).collect()
}

/// How the bytes of a test are drawn.
#[derive(Clone, Copy, Debug)]
enum Draw {
    Any,
    /// The largest magnitudes, which overflow sums that are too narrow.
    Extreme,
}

fn holds_to_oracle(kernel: &dyn Kernel, draw: Draw, seed: u64) {
    let mut numbers = Numbers(seed);
    let (rows, depth, columns) = (1 + numbers.below(70), 1 + numbers.below(900), 1 + numbers.below(150));
    let matrix: Vec<i8> = (0..depth * columns)
        .map(|_| match draw {
            Draw::Any => (numbers.below(256) as i32 - 128) as i8,
            Draw::Extreme => [-128, 127][numbers.below(2)],
        })
        .collect();
    let panels = Panels::pack(&matrix, depth, columns);
    let stride = panels.depth() + 64 * numbers.below(2);
    let left: Vec<u8> = (0..rows.next_multiple_of(ROW_STEP) * stride)
        .map(|_| match draw {
            Draw::Any => (numbers.below(255) as i32 - 127) as u8,
            Draw::Extreme => [-127i8, 0, 127][numbers.below(3)].cast_unsigned(),
        })
        .collect();
    let all = columns.div_ceil(PANEL);
    let from = numbers.below(all);
    let right = panels.part(from, from + 1 + numbers.below(all - from));
    let expected = product(&scalar::Scalar, (&left, stride, rows), right);
    let got = product(kernel, (&left, stride, rows), right);
    assert_eq!(got, expected, "{}: {draw:?}, seed {seed}: {rows} x {depth} x {columns}", kernel.name());
}

#[test]
fn every_kernel_gives_the_oracles_integers() {
    for kernel in supported() {
        for seed in 0..200 {
            holds_to_oracle(kernel.as_ref(), Draw::Any, seed);
            holds_to_oracle(kernel.as_ref(), Draw::Extreme, 1_000 + seed);
        }
        println!("{} gives the oracle's integers", kernel.name());
    }
}

/// A right matrix of any numbers, as deep as `kernel` can end: its panels, sums and depth.
fn shallow(numbers: &mut Numbers, kernel: &dyn Kernel) -> (Vec<i8>, Vec<i32>, usize) {
    let (panels, depth) = (1 + numbers.below(11), kernel.depth_step() * (1 + numbers.below(9)));
    let data: Vec<i8> = (0..panels * PANEL * depth).map(|_| (numbers.below(256) as i32 - 128) as i8).collect();
    let mut sums = vec![0; panels * PANEL];
    for (at, number) in data.iter().enumerate() {
        sums[at / (PANEL * depth) * PANEL + at / 4 % PANEL] += i32::from(*number);
    }
    (data, sums, depth)
}

#[test]
fn every_kernel_ends_where_its_step_does() {
    for kernel in supported() {
        let mut numbers = Numbers(9);
        for _ in 0..100 {
            let (panels, sums, depth) = shallow(&mut numbers, kernel.as_ref());
            let right = Right { panels: &panels, sums: &sums, depth };
            let (rows, stride) = (1 + numbers.below(40), depth.next_multiple_of(DEPTH_STEP));
            let left: Vec<u8> = (0..rows.next_multiple_of(ROW_STEP) * stride)
                .map(|_| (numbers.below(255) as i32 - 127) as u8)
                .collect();
            let expected = product(&scalar::Scalar, (&left, stride, rows), right);
            let got = product(kernel.as_ref(), (&left, stride, rows), right);
            assert_eq!(got, expected, "{}: {rows} x {depth} x {}", kernel.name(), sums.len());
        }
    }
}

/// What a kernel does with its sums is what the pass does with them once they are set aside, to the bit.
#[test]
fn every_kernel_takes_sums_where_the_pass_does() {
    for kernel in supported() {
        let mut numbers = Numbers(10);
        for case in 0..100 {
            let (panels, sums, depth) = shallow(&mut numbers, kernel.as_ref());
            let right = Right { panels: &panels, sums: &sums, depth };
            let (rows, stride, columns) = (1 + numbers.below(70), depth.next_multiple_of(DEPTH_STEP), sums.len());
            let bytes: Vec<u8> = (0..rows.next_multiple_of(ROW_STEP) * stride)
                .map(|_| (numbers.below(255) as i32 - 127) as u8 ^ kernel.encoding())
                .collect();
            let left = Left { bytes: &bytes, stride, rows };
            let mut small =
                |count: usize| -> Vec<f32> { (0..count).map(|_| (1.5 + numbers.float()) / 512.0).collect() };
            let (of_rows, of_columns, more_of_rows, more_of_columns) =
                (small(rows), small(columns), small(rows), small(columns));
            let room = columns + 16 * (case % 2);
            let held = small(rows * room);
            let (mut fused, mut after) = ([held.clone(), vec![LEAST; columns]], [held, vec![LEAST; columns]]);
            let to = |[out, most]: &mut [Vec<f32>; 2], f: &mut dyn FnMut(To)| match case % 6 {
                0 => f(To::Scores(Scores { key_scales: &of_rows, out, most })),
                1 => f(To::Gathered(Gathered {
                    keep: &of_columns,
                    gain: &more_of_columns,
                    scales: &of_rows,
                    offsets: &more_of_rows,
                    out,
                })),
                kind => f(To::Floats(Floats {
                    row_scales: &of_rows,
                    column_scales: &of_columns,
                    bias: &more_of_columns,
                    lift: (kind == 5).then_some(&of_columns),
                    then: [Then::Store, Then::Gelu, Then::Add, Then::Add][kind - 2],
                    out,
                    stride: room,
                })),
            };
            let engaged = Engaged::new(kernel.as_ref());
            to(&mut fused, &mut |to| engaged.multiply_to(left, right, &mut Aligned::default(), to));
            let mut sums = vec![0; rows.next_multiple_of(ROW_STEP) * columns];
            engaged.multiply(left, right, &mut sums, columns);
            let sums = &sums[..rows * columns];
            to(&mut after, &mut |mut to| engaged.run(Finish { sums, columns, from: 0, to: &mut to }));
            assert!(fused == after, "{}, case {case}: {rows} x {depth} x {columns}", kernel.name());
        }
    }
}

/// Numbers from a known least one upwards: their bytes, [`LEVELS`] more, times the scale, and that one.
#[test]
fn every_lane_set_quantizes_from_the_least() {
    const LEAST: f32 = -0.17;
    for_each_lane_set(|name, lanes| {
        let mut numbers = Numbers(11);
        for (width, rows) in [(64, 3), (80, 4), (1040, 2)] {
            let padded = usize::next_multiple_of(width, 64);
            let mut input: Vec<f32> = (0..rows * width).map(|_| LEAST + (1.0 + numbers.float()).powi(3)).collect();
            // A row of the least alone has a scale nevertheless.
            input[(rows - 1) * width..].fill(LEAST);
            let (mut out, mut scales) = (vec![7; rows * padded], vec![0.0; rows]);
            lanes.run(QuantizeRows {
                input: &input,
                width,
                before: Before::Nothing,
                span: Span::From(LEAST),
                out: &mut out,
                stride: padded,
                encoding: 0x80,
                scales: &mut scales,
                row: &mut vec![9.0; padded],
            });
            for (r, (from, bytes)) in input.chunks_exact(width).zip(out.chunks_exact(padded)).enumerate() {
                let most = from.iter().fold(0.0, |most: f32, v| most.max(*v));
                let scale = f64::from(most - LEAST) / 254.0;
                close(&format!("{name}, width {width}, row {r}: scale"), scales[r], scale, 1e-6 * scale);
                for (at, (byte, from)) in bytes.iter().zip(from).enumerate() {
                    let level = f32::from((byte ^ 0x80).cast_signed()) + LEVELS;
                    let expected = f64::from(from - LEAST) / scale;
                    close(&format!("{name}, width {width}, row {r}, number {at}"), level, expected, 0.51);
                }
            }
        }
    });
}

#[test]
fn the_oracle_multiplies_matrices() {
    let (rows, depth, columns) = (3, 5, 18);
    let mut numbers = Numbers(1);
    let right: Vec<i8> = (0..depth * columns).map(|_| (numbers.below(256) as i32 - 128) as i8).collect();
    let panels = Panels::pack(&right, depth, columns);
    let left: Vec<u8> = (0..ROW_STEP * 64).map(|_| (numbers.below(255) as i32 - 127) as u8).collect();
    let got = product(&scalar::Scalar, (&left, 64, rows), panels.part(0, 2));
    for row in 0..rows {
        for column in 0..columns {
            let of = |k: usize| i32::from(left[row * 64 + k].cast_signed()) * i32::from(right[k * columns + column]);
            assert_eq!(got[row * 32 + column], (0..depth).map(of).sum::<i32>(), "{row} {column}");
        }
    }
}

#[test]
fn every_lane_set_quantizes_rows() {
    for_each_lane_set(|name, lanes| {
        let mut numbers = Numbers(2);
        for (width, rows) in [(16usize, 1), (48, 3), (64, 5), (80, 2), (384, 17), (1040, 4)] {
            let padded = width.next_multiple_of(64);
            let (stride, encoding) = (padded + 64, if rows % 2 == 0 { 0 } else { 0x80 });
            let mut input = uneven(&mut numbers, rows * width);
            // A row of nothing has a scale nevertheless.
            input[(rows - 1) * width..].fill(0.0);
            let (gamma, beta) = (uneven(&mut numbers, width), uneven(&mut numbers, width));
            let norm = Norm { gamma: &gamma, beta: &beta, epsilon: 1e-6 };
            for (before, kind) in
                [(Before::Nothing, "plain"), (Before::Norm(norm), "norm"), (Before::Factors(&beta), "factors")]
            {
                let (mut out, mut scales) = (vec![7; rows * stride], vec![0.0; rows]);
                let (input, row) = (&input[..], &mut vec![9.0; padded]);
                lanes.run(QuantizeRows {
                    input,
                    width,
                    before,
                    span: Span::Even,
                    out: &mut out,
                    stride,
                    encoding,
                    scales: &mut scales,
                    row,
                });
                for r in 0..rows {
                    let what = format!("{name}, {kind}, width {width}, row {r}");
                    let from = &input[r * width..][..width];
                    let expected: Vec<f64> = match before {
                        Before::Nothing => from.iter().map(|v| f64::from(*v)).collect(),
                        Before::Norm(norm) => normal(from, norm),
                        Before::Factors(factors) => {
                            from.iter().zip(factors).map(|(v, by)| f64::from(*v) * f64::from(*by)).collect()
                        }
                    };
                    let (bytes, rest) = out[r * stride..][..stride].split_at(padded);
                    holds_quantized(&what, scales[r], bytes.iter().map(|byte| byte ^ encoding), &expected);
                    assert!(bytes[width..].iter().all(|byte| *byte == encoding), "{what}: what fills it up");
                    assert!(rest.iter().all(|byte| *byte == 7), "{what}: what lies behind");
                }
            }
        }
    });
}

#[test]
fn every_lane_set_quantizes_values() {
    for_each_lane_set(|name, lanes| {
        let mut numbers = Numbers(3);
        for (width, rows, encoding) in [(16, 1, 0), (48, 9, 0x80), (64, 64, 0x80), (80, 66, 0), (32, 128, 0)] {
            let keys = usize::next_multiple_of(rows, 64);
            let mut input = uneven(&mut numbers, rows * width);
            input.iter_mut().skip(width - 1).step_by(width).for_each(|v| *v = 0.0);
            let (mut out, mut scales, mut offsets) = (vec![7; width * keys], vec![7.0; width], vec![7.0; width]);
            lanes.run(QuantizeValues {
                input: &input,
                width,
                rows,
                out: &mut out,
                keys,
                encoding,
                scales: &mut scales,
                offsets: &mut offsets,
            });
            for (c, bytes) in out.chunks_exact(keys).enumerate() {
                let what = format!("{name}, {rows} x {width}, column {c}");
                let expected: Vec<f64> = input.iter().skip(c).step_by(width).map(|v| f64::from(*v)).collect();
                let bytes: Vec<u8> = bytes.iter().map(|byte| byte ^ encoding).collect();
                holds_quantized(&what, scales[c], bytes[..rows].iter().copied(), &expected);
                assert!(bytes[rows..].iter().all(|byte| *byte == 0), "{what}: what fills it up");
                let sum: i32 = bytes.iter().map(|byte| i32::from(byte.cast_signed())).sum();
                let offset = 128.0 * f64::from(sum) * f64::from(scales[c]);
                close(&what, offsets[c], offset, 1e-6 * offset.abs());
            }
        }
    });
}

#[test]
fn every_lane_set_packs_columns() {
    for_each_lane_set(|name, lanes| {
        let mut numbers = Numbers(8);
        for (depth, columns) in [(64, 16), (192, 48)] {
            let matrix: Vec<i8> = (0..depth * columns).map(|_| (numbers.below(255) as i32 - 127) as i8).collect();
            let bytes: Vec<u8> =
                (0..columns * depth).map(|at| matrix[at % depth * columns + at / depth].cast_unsigned()).collect();
            let (mut panels, mut sums) = (vec![7; depth * columns], vec![7; columns]);
            lanes.run(PackColumns { bytes: &bytes, depth, panels: &mut panels, sums: &mut sums });
            let expected = Panels::pack(&matrix, depth, columns);
            assert!(expected.parts() == (&panels[..], &sums[..]), "{name}: {depth} x {columns}");
        }
    });
}

#[test]
fn every_lane_set_normalises_rows() {
    for_each_lane_set(|name, lanes| {
        let mut numbers = Numbers(4);
        for (width, rows) in [(16, 1), (80, 3), (384, 5), (1040, 2)] {
            let (gamma, beta) = (uneven(&mut numbers, width), uneven(&mut numbers, width));
            let norm = Norm { gamma: &gamma, beta: &beta, epsilon: 1e-6 };
            let input = uneven(&mut numbers, rows * width);
            let mut got = input.clone();
            lanes.run(NormRows { rows: &mut got, norm, row: &mut vec![9.0; width] });
            for (r, (from, got)) in input.chunks_exact(width).zip(got.chunks_exact(width)).enumerate() {
                for (c, (got, expected)) in got.iter().zip(normal(from, norm)).enumerate() {
                    let size = 1.0 + (expected - f64::from(beta[c])).abs() + f64::from(beta[c]).abs();
                    close(&format!("{name}, {rows} x {width}, at {r}, {c}"), *got, expected, 1e-5 * size);
                }
            }
        }
    });
}

#[test]
fn every_lane_set_finishes_products() {
    for_each_lane_set(|name, lanes| {
        let mut numbers = Numbers(5);
        for (rows, columns) in [(1, 16), (5, 48), (64, 64)] {
            let stride = columns + 16;
            let product = Product::draw(&mut numbers, rows, columns, 12.0);
            for then in [Then::Store, Then::Gelu, Then::Add] {
                let before = uneven(&mut numbers, rows * stride);
                let mut out = before.clone();
                let floats = Floats {
                    row_scales: &product.row_scales,
                    column_scales: &product.column_scales,
                    bias: &product.bias,
                    lift: None,
                    then,
                    out: &mut out,
                    stride,
                };
                lanes.run(Finish { sums: &product.sums, columns, from: 0, to: &mut To::Floats(floats) });
                for (at, (got, held)) in out.iter().zip(&before).enumerate() {
                    let (r, c) = (at / stride, at % stride);
                    let what = format!("{name}, {then:?}, {rows} x {columns}, at {r}, {c}");
                    if c >= columns {
                        assert_eq!(got, held, "{what}: what lies behind");
                        continue;
                    }
                    let (value, size) = product.at(r, c);
                    let held = f64::from(*held);
                    match then {
                        Then::Store => close(&what, *got, value, 1e-5 * size),
                        Then::Add => close(&what, *got, value + held, 1e-5 * (size + held.abs())),
                        Then::Gelu => {
                            let expected = value * (1.0 + erf(value / 2f64.sqrt())) / 2.0;
                            close(&what, *got, expected, 2e-4 + 4e-5 * value.abs());
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn every_lane_set_gates_products() {
    for_each_lane_set(|name, lanes| {
        let mut numbers = Numbers(6);
        // Gates of some hundreds are beyond what an exponential can be of.
        for (rows, columns, most) in [(1, 16, 8.0), (5, 48, 30.0), (64, 64, 300.0)] {
            let stride = columns + 16;
            let [gates, values] = [most, 8.0].map(|most| Product::draw(&mut numbers, rows, columns, most));
            let values = Product { row_scales: gates.row_scales.clone(), ..values };
            let mut out = vec![7.0; rows * stride];
            lanes.run(FinishGated {
                sums: [&gates.sums, &values.sums],
                columns,
                rows,
                row_scales: &gates.row_scales,
                column_scales: [&gates.column_scales, &values.column_scales],
                bias: [&gates.bias, &values.bias],
                out: &mut out,
                stride,
            });
            for (at, got) in out.iter().enumerate() {
                let (r, c) = (at / stride, at % stride);
                let what = format!("{name}, {rows} x {columns}, gates to {most}, at {r}, {c}");
                if c >= columns {
                    assert_eq!(*got, 7.0, "{what}: what lies behind");
                    continue;
                }
                let ((gate, of_gate), (value, of_value)) = (gates.at(r, c), values.at(r, c));
                close(&what, *got, gate / (1.0 + (-gate).exp()) * value, 1e-5 * of_gate * of_value);
            }
        }
    });
}

/// A weight is of the level nearest to its logarithm, half of a 28th of an octave away at most, and rounded to a whole
/// number then. What a weighted mean is off follows from that.
#[test]
fn every_lane_set_weighs_values_by_a_softmax() {
    const OF_LEVEL: f64 = 0.0125;
    const OF_ROUNDING: f64 = 0.51;
    /// What a row knows of a key: its exponent of 2, the largest of its block's, and its weight as a byte.
    struct Seen {
        exponent: f64,
        of_block: f64,
        weight: u8,
    }
    for_each_lane_set(|name, lanes| {
        let mut numbers = Numbers(7);
        for (rows, width, blocks) in [
            (16usize, 16, vec![(64, 1)]),
            (32, 48, vec![(64, 64), (64, 5)]),
            (32, 32, vec![(192, 192), (192, 131), (64, 33)]),
            (64, 16, vec![(128, 128), (128, 1)]),
        ] {
            let query_scales: Vec<f32> = (0..rows).map(|_| (1.5 + numbers.float()) / 64.0).collect();
            let (mut largest, mut total) = (vec![LEAST; rows], vec![0.0; rows]);
            let (mut keep, mut gain) = (vec![0.0; rows], vec![0.0; rows]);
            let mut gathered = vec![0.0; width * rows];
            let mut seen: Vec<Vec<Seen>> = (0..rows).map(|_| Vec::new()).collect();
            // (keys, width)
            let mut seen_values: Vec<Vec<f64>> = Vec::new();
            for (keys, valid) in blocks {
                let key_scales: Vec<f32> = (0..valid).map(|_| (1.5 + numbers.float()) / 64.0).collect();
                // The first queries attend to all alike, the last ones to few.
                let scores: Vec<i32> = (0..valid * rows)
                    .map(|at| {
                        let (k, r) = (at / rows, at % rows);
                        let exponent = numbers.float() * [0.1, 2.0, 6.0, 20.0][r * 4 / rows];
                        (exponent / key_scales[k] / query_scales[r]) as i32
                    })
                    .collect();
                let (mut scaled, mut most) = (vec![7.0; valid * rows], vec![LEAST; rows]);
                let to = Scores { key_scales: &key_scales, out: &mut scaled, most: &mut most };
                lanes.run(Finish { sums: &scores, columns: rows, from: 0, to: &mut To::Scores(to) });
                let (mut panels, mut weight_sums) = (vec![7; rows * keys], vec![7; rows]);
                lanes.run(Softmax {
                    scores: &scaled,
                    most: &most,
                    query_scales: &query_scales,
                    weights: &mut panels,
                    sums: &mut weight_sums,
                    state: QueryState { largest: &mut largest, total: &mut total, keep: &mut keep, gain: &mut gain },
                });
                let at = |k: usize, r: usize| panels[r / 16 * 16 * keys + k / 4 * 64 + r % 16 * 4 + k % 4];
                for (r, seen) in seen.iter_mut().enumerate() {
                    let sum: i32 = (0..keys).map(|k| i32::from(at(k, r))).sum();
                    assert_eq!(weight_sums[r], sum, "{name}, {rows} queries, the sum of {r}");
                    let exponent = |k: usize| {
                        f64::from(scores[k * rows + r]) * f64::from(key_scales[k]) * f64::from(query_scales[r])
                    };
                    let of_block = (0..valid).map(exponent).fold(f64::MIN, f64::max);
                    for k in 0..valid {
                        let what = format!("{name}, query {r} of {rows}, key {k}, {valid} valid of {keys}");
                        let weight = i32::from(at(k, r)) + 128;
                        let expected = 255.0 * (exponent(k) - of_block).exp2();
                        close(&what, weight as f32, expected, OF_LEVEL * expected + OF_ROUNDING);
                        seen.push(Seen { exponent: exponent(k), of_block, weight: weight as u8 });
                    }
                }
                // Values of keys that there are not are 0.
                let values: Vec<i32> = (0..keys * width)
                    .map(|at| if at < valid * width { numbers.below(255) as i32 - 127 } else { 0 })
                    .collect();
                let scales: Vec<f32> = (0..width).map(|_| 1.5 + numbers.float()).collect();
                let value = |k: usize, c: usize| f64::from(values[k * width + c]) * f64::from(scales[c]);
                seen_values.extend((0..valid).map(|k| (0..width).map(|c| value(k, c)).collect()));
                let sums: Vec<i32> = (0..width * rows)
                    .map(|to| (0..keys).map(|k| i32::from(at(k, to % rows)) * values[k * width + to / rows]).sum())
                    .collect();
                let offset =
                    |c: usize| 128.0 * (0..keys).map(|k| values[k * width + c]).sum::<i32>() as f32 * scales[c];
                let to = Gathered {
                    keep: &keep,
                    gain: &gain,
                    scales: &scales,
                    offsets: &(0..width).map(offset).collect::<Vec<f32>>(),
                    out: &mut gathered,
                };
                lanes.run(Finish { sums: &sums, columns: rows, from: 0, to: &mut To::Gathered(to) });
            }
            let mut out = vec![7.0; rows * width];
            lanes.run(Divide { gathered: &gathered, totals: &total, out: &mut out, width });
            for (at, got) in out.iter().enumerate() {
                let (seen, values) = (&seen[at / width], seen_values.iter().map(|values| values[at % width]));
                let what = format!("{name}, {rows} x {width}, at {}, {}", at / width, at % width);
                let most = seen.iter().fold(f64::MIN, |most, seen| most.max(seen.of_block));
                let gain = |seen: &Seen| (seen.of_block - most).exp2() / 255.0;
                // But for floats' rounding, it is what the bytes make of the values.
                let given: Vec<f64> = seen.iter().map(|seen| f64::from(seen.weight) * gain(seen)).collect();
                let (expected, _) = weighted_mean(&given, values.clone());
                // A weight less 128 and what comes back of that are numbers of the size of 128.
                let size = |of: &Seen| (f64::from(of.weight) + 128.0) * gain(of);
                let sizes: f64 = seen.iter().zip(values.clone()).map(|(seen, value)| size(seen) * value.abs()).sum();
                close(&what, *got, expected, 1e-6 * sizes / given.iter().sum::<f64>());
                // And that is not far from what exact weights make of them.
                let exact: Vec<f64> = seen.iter().map(|seen| (seen.exponent - most).exp2()).collect();
                let (expected, total) = weighted_mean(&exact, values.clone());
                let off = seen.iter().zip(&exact).map(|(seen, exact)| OF_LEVEL * exact + OF_ROUNDING * gain(seen));
                let moved: f64 = off.clone().zip(values).map(|(off, value)| off * (value - expected).abs()).sum();
                close(&what, *got, expected, moved / (total - off.sum::<f64>()) + 1e-3);
            }
        }
    });
}

#[test]
fn a_query_of_zeros_weighs_what_there_is_alike() {
    for_each_lane_set(|name, lanes| {
        let (mut largest, mut total, mut keep, mut gain) = ([LEAST; 16], [0.0; 16], [0.0; 16], [0.0; 16]);
        let (mut weights, mut sums) = ([7; 16 * 64], [7; 16]);
        lanes.run(Softmax {
            scores: &[0.0; 5 * 16],
            most: &[0.0; 16],
            query_scales: &[f32::MIN_POSITIVE; 16],
            weights: &mut weights,
            sums: &mut sums,
            state: QueryState { largest: &mut largest, total: &mut total, keep: &mut keep, gain: &mut gain },
        });
        assert!(total.iter().all(|total| (total / (5.0 * 255.0) - 1.0).abs() < 1e-5), "{name}: {total:?}");
        // Two fours of keys are weighed, three of them by nothing.
        let expected = |at: usize| {
            if at < 64 || at < 128 && at.is_multiple_of(4) {
                127
            } else if at < 128 {
                -128
            } else {
                0
            }
        };
        assert!(weights.iter().enumerate().all(|(at, weight)| *weight == expected(at)), "{name}: {weights:?}");
    });
}

#[test]
fn every_lane_set_transposes() {
    struct Transpose<'a>(&'a [f32], &'a mut [f32]);
    impl Pass for Transpose<'_> {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes>(self) {
            let mut rows = [L::splat(0.0); 16];
            for (row, from) in rows.iter_mut().zip(self.0.chunks_exact(16)) {
                *row = L::load(from);
            }
            for (row, to) in L::transpose(rows).into_iter().zip(self.1.chunks_exact_mut(16)) {
                row.store(to);
            }
        }
    }
    for_each_lane_set(|name, lanes| {
        let from: Vec<f32> = (0..256).map(|at| at as f32).collect();
        let mut to = vec![0.0; 256];
        lanes.run(Transpose(&from, &mut to));
        assert!(to.iter().enumerate().all(|(at, got)| *got == from[at % 16 * 16 + at / 16]), "{name}: {to:?}");
    });
}

fn for_each_lane_set(holds: impl Fn(&str, LaneSet)) {
    for kernel in supported() {
        holds(kernel.name(), kernel.lanes());
    }
}

/// Numbers as layers have them: around a mean, with an outlier here and there.
fn uneven(numbers: &mut Numbers, count: usize) -> Vec<f32> {
    let mean = numbers.float();
    let mut next = || (mean + numbers.float()) * if numbers.below(100) == 0 { 30.0 } else { 1.0 };
    (0..count).map(|_| next()).collect()
}

/// What goes into products' floats.
struct Product {
    columns: usize,
    sums: Vec<i32>,
    row_scales: Vec<f32>,
    column_scales: Vec<f32>,
    bias: Vec<f32>,
}

impl Product {
    /// Floats of up to about `most`.
    fn draw(numbers: &mut Numbers, rows: usize, columns: usize, most: f32) -> Product {
        let mut scales = |count: usize| -> Vec<f32> { (0..count).map(|_| (1.5 + numbers.float()) / 2048.0).collect() };
        let (row_scales, column_scales) = (scales(rows), scales(columns));
        let sums = (0..rows * columns).map(|_| (numbers.float() * most * 2f32.powi(20)) as i32).collect();
        Product { columns, sums, row_scales, column_scales, bias: (0..columns).map(|_| numbers.float()).collect() }
    }

    /// The float, and how large what it is the sum of is.
    fn at(&self, r: usize, c: usize) -> (f64, f64) {
        let scale = f64::from(self.row_scales[r]) * f64::from(self.column_scales[c]);
        let (product, bias) = (f64::from(self.sums[r * self.columns + c]) * scale, f64::from(self.bias[c]));
        (product + bias, product.abs() + bias.abs())
    }
}

/// The mean of values by their weights, and the sum of these.
fn weighted_mean(weights: &[f64], values: impl Iterator<Item = f64>) -> (f64, f64) {
    let total: f64 = weights.iter().sum();
    (weights.iter().zip(values).map(|(weight, value)| weight * value).sum::<f64>() / total, total)
}

fn normal(row: &[f32], norm: Norm) -> Vec<f64> {
    let width = row.len() as f64;
    let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / width;
    let variance = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / width;
    let deviation = (variance + f64::from(norm.epsilon)).sqrt();
    let constants = norm.gamma.iter().zip(norm.beta);
    let value = |(v, (gamma, beta)): (&f32, (&f32, &f32))| {
        (f64::from(*v) - mean) / deviation * f64::from(*gamma) + f64::from(*beta)
    };
    row.iter().zip(constants).map(value).collect()
}

/// The error function, by a series without cancellation (Abramowitz and Stegun 7.1.6).
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

fn close(what: &str, got: f32, expected: f64, tolerance: f64) {
    assert!((f64::from(got) - expected).abs() <= tolerance, "{what}: {got}, not {expected} within {tolerance}");
}

/// The scale is the largest magnitude by 127 to 1e-5, and bytes are the nearest to what they stand for, but for that.
fn holds_quantized(what: &str, scale: f32, bytes: impl Iterator<Item = u8>, expected: &[f64]) {
    let most = expected.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    let exact = (most / 127.0).max(f64::from(f32::MIN_POSITIVE));
    close(&format!("{what}: scale"), scale, exact, 1e-5 * exact);
    for (at, (byte, expected)) in bytes.zip(expected).enumerate() {
        close(&format!("{what}: number {at}"), f32::from(byte.cast_signed()), expected / exact, 0.51);
    }
}
