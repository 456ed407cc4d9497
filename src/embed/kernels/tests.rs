//! Every kernel against the oracle, and every set of lanes against plain arithmetic in f64.

use super::lanes::Lanes;
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

fn product(kernel: &dyn Kernel, left: (&[u8], usize, usize, Sign), right: Right) -> Vec<i32> {
    let (numbers, stride, rows, sign) = left;
    let bytes = encoded(numbers, kernel.encoding(sign));
    let width = right.panel_count() * PANEL + 3;
    let mut out = vec![-7; rows.next_multiple_of(ROW_STEP) * width];
    Engaged::new(kernel).multiply(Left { bytes: &bytes, stride, rows, sign }, right, &mut out, width);
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
    let sign = if numbers.below(2) == 0 { Sign::Signed } else { Sign::Unsigned };
    let matrix: Vec<i8> = (0..depth * columns)
        .map(|_| match draw {
            Draw::Any => (numbers.below(255) as i32 - 127) as i8,
            Draw::Extreme => [-127, 127][numbers.below(2)],
        })
        .collect();
    let panels = Panels::pack(&matrix, depth, columns);
    let stride = panels.depth() + 64 * numbers.below(2);
    let left: Vec<u8> = (0..rows.next_multiple_of(ROW_STEP) * stride)
        .map(|_| match draw {
            Draw::Any => numbers.below(256) as u8,
            Draw::Extreme => [0, 128, 127, 255][numbers.below(4)],
        })
        .collect();
    let all = columns.div_ceil(PANEL);
    let from = numbers.below(all);
    let right = panels.part(from, from + 1 + numbers.below(all - from));
    let expected = product(&scalar::Scalar, (&left, stride, rows, sign), right);
    let got = product(kernel, (&left, stride, rows, sign), right);
    assert_eq!(got, expected, "{}: {draw:?}, seed {seed}: {rows} x {depth} x {columns}, {sign:?}", kernel.name());
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

#[test]
fn the_oracle_multiplies_matrices() {
    let (rows, depth, columns) = (3, 5, 18);
    let mut numbers = Numbers(1);
    let right: Vec<i8> = (0..depth * columns).map(|_| (numbers.below(255) as i32 - 127) as i8).collect();
    let panels = Panels::pack(&right, depth, columns);
    let left: Vec<u8> = (0..ROW_STEP * 64).map(|_| numbers.below(256) as u8).collect();
    for (sign, value) in [
        (Sign::Signed, (|byte: u8| i32::from(byte.cast_signed())) as fn(u8) -> i32),
        (Sign::Unsigned, (|byte: u8| i32::from(byte)) as fn(u8) -> i32),
    ] {
        let got = product(&scalar::Scalar, (&left, 64, rows, sign), panels.part(0, 2));
        for row in 0..rows {
            for column in 0..columns {
                let expected: i32 =
                    (0..depth).map(|k| value(left[row * 64 + k]) * i32::from(right[k * columns + column])).sum();
                assert_eq!(got[row * 32 + column], expected, "{sign:?} {row} {column}");
            }
        }
    }
}

#[test]
fn every_lane_set_quantizes_rows() {
    for_each_lane_set(|name, lanes| {
        let mut numbers = Numbers(2);
        for (width, rows) in [(16usize, 1), (48, 3), (64, 5), (80, 2), (384, 17), (1040, 4)] {
            let (input_stride, padded) = (width + 16, width.next_multiple_of(64));
            let (stride, encoding) = (padded + 64, if rows % 2 == 0 { 0 } else { 0x80 });
            let mut input = uneven(&mut numbers, rows * input_stride);
            // A row of nothing has a scale nevertheless.
            input[(rows - 1) * input_stride..].fill(0.0);
            let (gamma, beta) = (uneven(&mut numbers, width), uneven(&mut numbers, width));
            let norm = Norm { gamma: &gamma, beta: &beta, epsilon: 1e-6 };
            for (before, kind) in
                [(Before::Nothing, "plain"), (Before::Norm(norm), "norm"), (Before::Factors(&beta), "factors")]
            {
                let (mut out, mut scales) = (vec![7; rows * stride], vec![0.0; rows]);
                let (input, row) = (&input[..], &mut vec![9.0; padded]);
                lanes.run(QuantizeRows {
                    input,
                    input_stride,
                    width,
                    rows,
                    before,
                    out: &mut out,
                    stride,
                    encoding,
                    scales: &mut scales,
                    row,
                });
                for r in 0..rows {
                    let what = format!("{name}, {kind}, width {width}, row {r}");
                    let from = &input[r * input_stride..][..width];
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
fn every_lane_set_quantizes_columns() {
    for_each_lane_set(|name, lanes| {
        let mut numbers = Numbers(3);
        for (width, rows) in [(16, 1), (48, 9), (64, 64), (80, 5), (144, 33)] {
            let mut input = uneven(&mut numbers, rows * width);
            input.iter_mut().skip(width - 1).step_by(width).for_each(|v| *v = 0.0);
            let (mut out, mut scales) = (vec![0; rows * width], vec![0.0; width]);
            lanes.run(QuantizeColumns { input: &input, width, rows, out: &mut out, scales: &mut scales });
            for (c, scale) in scales.iter().enumerate() {
                let expected: Vec<f64> = input.iter().skip(c).step_by(width).map(|v| f64::from(*v)).collect();
                let bytes = out.iter().skip(c).step_by(width).copied();
                holds_quantized(&format!("{name}, {rows} x {width}, column {c}"), *scale, bytes, &expected);
            }
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
                lanes.run(Finish {
                    sums: &product.sums,
                    columns,
                    rows,
                    row_scales: &product.row_scales,
                    column_scales: &product.column_scales,
                    bias: &product.bias,
                    then,
                    out: &mut out,
                    stride,
                });
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
        for (rows, width, encoding, blocks) in [
            (1usize, 16, 0, vec![(64, 1)]),
            (17, 48, 0x80, vec![(64, 64), (64, 5)]),
            (32, 32, 0, vec![(128, 128), (128, 100), (64, 33)]),
            (64, 16, 0x80, vec![(128, 128), (128, 1)]),
        ] {
            let vectors = rows.next_multiple_of(16);
            let query_scales: Vec<f32> = (0..vectors).map(|_| (1.5 + numbers.float()) / 64.0).collect();
            let (mut largest, mut total) = (vec![LEAST; vectors], vec![0.0; vectors]);
            let (mut keep, mut gain) = (vec![0.0; vectors], vec![0.0; vectors]);
            let mut out = vec![0.0; rows * width];
            let mut seen: Vec<Vec<Seen>> = (0..rows).map(|_| Vec::new()).collect();
            // (keys, width)
            let mut seen_values: Vec<Vec<f64>> = Vec::new();
            for (keys, valid) in blocks {
                let key_scales: Vec<f32> = (0..keys).map(|_| (1.5 + numbers.float()) / 64.0).collect();
                // The first rows attend to all alike, the last ones to few.
                let scores: Vec<i32> = (0..rows * keys)
                    .map(|at| {
                        let exponent = numbers.float() * [0.1, 2.0, 6.0, 20.0][at / keys * 4 / rows];
                        (exponent / key_scales[at % keys] / query_scales[at / keys]) as i32
                    })
                    .collect();
                let mut weights = vec![7; rows * keys];
                lanes.run(Softmax {
                    scores: &scores,
                    keys,
                    valid,
                    rows,
                    query_scales: &query_scales,
                    key_scales: &key_scales,
                    weights: &mut weights,
                    encoding,
                    state: RowState { largest: &mut largest, total: &mut total, keep: &mut keep, gain: &mut gain },
                });
                weights.iter_mut().for_each(|weight| *weight ^= encoding);
                for (r, seen) in seen.iter_mut().enumerate() {
                    let (scores, weights) = (&scores[r * keys..][..keys], &weights[r * keys..][..keys]);
                    let exponent =
                        |k: usize| f64::from(scores[k]) * f64::from(key_scales[k]) * f64::from(query_scales[r]);
                    let of_block = (0..valid).map(exponent).fold(f64::MIN, f64::max);
                    for (k, weight) in weights.iter().enumerate() {
                        let what = format!("{name}, row {r} of {rows}, key {k}, {valid} valid of {keys}");
                        let expected = if k < valid { 255.0 * (exponent(k) - of_block).exp2() } else { 0.0 };
                        let tolerance = if k < valid { OF_LEVEL * expected + OF_ROUNDING } else { 0.0 };
                        close(&what, f32::from(*weight), expected, tolerance);
                    }
                    seen.extend((0..valid).map(|k| Seen { exponent: exponent(k), of_block, weight: weights[k] }));
                }
                let values: Vec<i32> = (0..keys * width).map(|_| numbers.below(255) as i32 - 127).collect();
                let column_scales: Vec<f32> = (0..width).map(|_| 1.5 + numbers.float()).collect();
                let value = |k: usize, c: usize| f64::from(values[k * width + c]) * f64::from(column_scales[c]);
                seen_values.extend((0..valid).map(|k| (0..width).map(|c| value(k, c)).collect()));
                let sum = |r: usize, c: usize| {
                    (0..keys).map(|k| i32::from(weights[r * keys + k]) * values[k * width + c]).sum::<i32>()
                };
                let sums: Vec<i32> = (0..rows * width).map(|at| sum(at / width, at % width)).collect();
                lanes.run(Gather {
                    sums: &sums,
                    width,
                    rows,
                    keep: &keep,
                    gain: &gain,
                    column_scales: &column_scales,
                    out: &mut out,
                });
            }
            lanes.run(Divide { values: &mut out, width, rows, totals: &total });
            for (at, got) in out.iter().enumerate() {
                let (seen, values) = (&seen[at / width], seen_values.iter().map(|values| values[at % width]));
                let what = format!("{name}, {rows} x {width}, at {}, {}", at / width, at % width);
                let most = seen.iter().fold(f64::MIN, |most, seen| most.max(seen.of_block));
                let gain = |seen: &Seen| (seen.of_block - most).exp2() / 255.0;
                // But for floats' rounding, it is what the bytes make of the values.
                let given: Vec<f64> = seen.iter().map(|seen| f64::from(seen.weight) * gain(seen)).collect();
                let (expected, _) = weighted_mean(&given, values.clone());
                close(&what, *got, expected, 1e-5 * weighted_mean(&given, values.clone().map(f64::abs)).0);
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

/// Lanes that look weights up have no other use for this.
#[test]
fn every_lane_set_stores_unsigned_bytes() {
    struct StoreUnsigned<'a>(&'a [f32], &'a mut [u8], u8);
    impl Pass for StoreUnsigned<'_> {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes>(self) {
            L::store_unsigned([0, 1, 2, 3].map(|i| L::load(&self.0[16 * i..])), self.1, self.2);
        }
    }
    for_each_lane_set(|name, lanes| {
        let halves: Vec<f32> = (0..512).map(|half| half.min(510) as f32 / 2.0).collect();
        for (numbers, encoding) in halves.chunks_exact(64).zip([0, 0x80].into_iter().cycle()) {
            let mut bytes = [7; 64];
            lanes.run(StoreUnsigned(numbers, &mut bytes, encoding));
            let expected: Vec<u8> = numbers.iter().map(|v| v.round_ties_even() as u8 ^ encoding).collect();
            assert_eq!(bytes[..], expected[..], "{name}: {numbers:?}");
        }
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
