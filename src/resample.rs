//! Bicubic resampling along one axis, as PyTorch does it: small matrices, one an axis.

/// Keys' cubic as PyTorch has it without and with antialiasing.
const PLAIN_CUBIC: f64 = -0.75;
const ANTIALIASED_CUBIC: f64 = -0.5;

/// Four taps around each sample, the outermost places standing for what lies beyond them: (length, grid). `step` is
/// from sample to sample.
pub fn plain(length: usize, grid: usize, step: f64) -> Vec<f32> {
    let mut matrix = vec![0.0f64; length * grid];
    for to in 0..length {
        let centre = step * (to as f64 + 0.5) - 0.5;
        let first = centre.floor() as isize - 1;
        for tap in first..first + 4 {
            let from = tap.clamp(0, grid as isize - 1) as usize;
            matrix[to * grid + from] += cubic(centre - tap as f64, PLAIN_CUBIC);
        }
    }
    matrix.into_iter().map(|weight| weight as f32).collect()
}

/// A cubic as wide as the samples are apart, cut off at the borders and scaled to a sum of 1: (length, grid).
pub fn antialiased(length: usize, grid: usize) -> Vec<f32> {
    let step = grid as f64 / length as f64;
    let width = step.max(1.0);
    let mut matrix = vec![0.0f64; length * grid];
    for (to, row) in matrix.chunks_exact_mut(grid).enumerate() {
        let centre = step * (to as f64 + 0.5);
        let first = ((centre - 2.0 * width + 0.5) as isize).max(0) as usize;
        let last = ((centre + 2.0 * width + 0.5) as usize).min(grid);
        for (from, weight) in row.iter_mut().enumerate().take(last).skip(first) {
            *weight = cubic((from as f64 + 0.5 - centre) / width, ANTIALIASED_CUBIC);
        }
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|weight| *weight /= sum);
    }
    matrix.into_iter().map(|weight| weight as f32).collect()
}

/// Keys' interpolation kernel ("Cubic convolution interpolation for digital image processing", 1981).
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        a * (((x - 5.0) * x + 8.0) * x - 4.0)
    } else {
        0.0
    }
}
