//! Every kernel against the oracle.

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
    let (rows, depth, columns) = (1 + numbers.below(70), 1 + numbers.below(400), 1 + numbers.below(150));
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
