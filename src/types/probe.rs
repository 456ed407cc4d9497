//! The probe: a picture that anyone can draw again, and what a model made of it when it was made.
//!
//! A runtime that gets a graph wrong gives features that differ from the probe's, and is found out before it
//! tracks anything.

use super::Features;

/// A deterministic picture, (height, width, 3), red, green, blue; the same bytes on every machine.
///
/// Integer arithmetic alone: per channel a triangle wave along its own direction, with a period between 47 and
/// 131 pixels; over it a grid of 40-pixel cells, in which one cell in three is a flat patch of its own colour
/// and one in three has stripes; and noise of +-12 from a 32-bit mixing function of the pixel's index. So every
/// patch has colour, most have edges, and no two are alike.
pub fn probe_image(width: usize, height: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height as u32 {
        for x in 0..width as u32 {
            let cell = mix((y / 40).wrapping_mul(0x9e37) ^ (x / 40));
            for channel in 0..3u32 {
                let wave = match channel {
                    0 => triangle(3 * x + y, 131),
                    1 => triangle(x + 2 * y, 89),
                    _ => triangle(5 * x + 400_000 - 4 * (y % 100_000), 47 * 5),
                };
                let colour = (cell >> (8 * channel)) & 255;
                let base = match cell % 3 {
                    0 => wave,
                    1 => (wave + 3 * colour) / 4,
                    _ => {
                        (wave + if ((x + y * (cell >> 30)) / 5).is_multiple_of(2) { colour } else { 255 - colour }) / 2
                    }
                };
                let noise = mix((y.wrapping_mul(65_537).wrapping_add(x)).wrapping_mul(3).wrapping_add(channel)) % 25;
                pixels.push((base + noise).saturating_sub(12).min(255) as u8);
            }
        }
    }
    pixels
}

/// A triangle wave between 0 and 255.
fn triangle(position: u32, period: u32) -> u32 {
    let phase = position % period * 510 / period;
    if phase > 255 { 510 - phase } else { phase }
}

/// Spreads every bit of `value` over the result: two rounds of xor-shift and odd multiplication.
fn mix(value: u32) -> u32 {
    let value = (value ^ (value >> 16)).wrapping_mul(0x7feb_352d);
    let value = (value ^ (value >> 15)).wrapping_mul(0x846c_a68b);
    value ^ (value >> 16)
}

/// Features of the probe picture, at some of its patches: row `i` of `count` is that of patch
/// `i * patches / count`, rounded down.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeFeatures {
    /// Length of one row.
    pub dim: usize,
    /// (count, dim), little-endian 16-bit integers in a file; each row scaled so that its largest magnitude is 32767
    rows: Vec<i16>,
}

impl ProbeFeatures {
    /// Keeps `count` patches of `features`, or all where there are fewer.
    pub fn sample(features: &Features, count: usize) -> ProbeFeatures {
        let count = count.min(features.grid.len());
        let mut rows = Vec::with_capacity(count * features.dim);
        for i in 0..count {
            let row = features.row(i * features.grid.len() / count);
            let largest = row.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            let scale = if largest > 0.0 { 32_767.0 / largest } else { 0.0 };
            rows.extend(row.iter().map(|v| (v * scale).round() as i16));
        }
        ProbeFeatures { dim: features.dim, rows }
    }

    /// Reads `count` rows; `None` where the bytes are no whole number of values a row.
    pub fn from_bytes(bytes: &[u8], count: usize) -> Option<ProbeFeatures> {
        if count == 0 || bytes.is_empty() || !bytes.len().is_multiple_of(2 * count) {
            return None;
        }
        let rows = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        Some(ProbeFeatures { dim: bytes.len() / (2 * count), rows })
    }

    /// As it stands in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.rows.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.rows.len() / self.dim
    }

    /// Mean over the rows of the cosine between the probe and `features`. Two rows of zeros agree, a row of
    /// zeros and another do not. 0 where the lengths of a row differ.
    pub fn mean_cosine(&self, features: &Features) -> f32 {
        if features.dim != self.dim || self.count() > features.grid.len() {
            return 0.0;
        }
        let count = self.count();
        let cosine = |(i, expected): (usize, &[i16])| {
            let row = features.row(i * features.grid.len() / count);
            let (mut product, mut of_expected, mut of_row) = (0.0f64, 0.0f64, 0.0f64);
            for (a, b) in expected.iter().zip(row) {
                let (a, b) = (f64::from(*a), f64::from(*b));
                product += a * b;
                of_expected += a * a;
                of_row += b * b;
            }
            match (of_expected > 0.0, of_row > 0.0) {
                (false, false) => 1.0,
                (true, true) => product / (of_expected.sqrt() * of_row.sqrt()),
                _ => 0.0,
            }
        };
        let sum: f64 = self.rows.chunks_exact(self.dim).enumerate().map(cosine).sum();
        (sum / count as f64) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PatchGrid;

    fn features(seed: u32) -> Features {
        let grid = PatchGrid { rows: 5, cols: 7, patch: 16 };
        let data = (0..35 * 24u32).map(|i| mix(i ^ seed) as f32 / u32::MAX as f32 - 0.5).collect();
        let mut features = Features::new(grid, 24, data);
        features.normalise();
        features
    }

    #[test]
    fn the_picture_has_colour_and_edges_everywhere() {
        let (width, height) = (320, 240);
        let image = probe_image(width, height);
        for row in 0..height / 16 {
            for col in 0..width / 16 {
                for channel in 0..3 {
                    let at = |y: usize, x: usize| image[((row * 16 + y) * width + col * 16 + x) * 3 + channel];
                    let values: Vec<u8> = (0..256).map(|i| at(i / 16, i % 16)).collect();
                    let (low, high) = (values.iter().min().unwrap(), values.iter().max().unwrap());
                    assert!(high - low >= 15, "patch ({row}, {col}) is flat in channel {channel}");
                }
            }
        }
        let mean = image.iter().map(|v| u64::from(*v)).sum::<u64>() / image.len() as u64;
        assert!((90..165).contains(&mean), "the mean is {mean}");
    }

    #[test]
    fn a_larger_picture_begins_with_the_smaller_one() {
        let (small, large) = (probe_image(50, 20), probe_image(90, 40));
        for y in 0..20 {
            assert_eq!(small[y * 150..(y + 1) * 150], large[y * 270..y * 270 + 150]);
        }
    }

    #[test]
    fn probe_survives_its_file_and_knows_its_features() {
        let original = features(1);
        let probe = ProbeFeatures::sample(&original, 12);
        let read = ProbeFeatures::from_bytes(&probe.to_bytes(), 12).unwrap();
        assert_eq!(read, probe);
        assert_eq!((read.count(), read.dim), (12, 24));
        assert!(read.mean_cosine(&original) > 0.999_999);
        assert!(read.mean_cosine(&features(2)).abs() < 0.2);
    }

    #[test]
    fn zeros_and_other_lengths_do_not_agree_with_a_probe() {
        let original = features(1);
        let probe = ProbeFeatures::sample(&original, 35);
        assert_eq!(probe.mean_cosine(&Features::zeros(original.grid, 24)), 0.0);
        assert_eq!(probe.mean_cosine(&Features::zeros(original.grid, 23)), 0.0);
        let blank = ProbeFeatures::sample(&Features::zeros(original.grid, 24), 35);
        assert_eq!(blank.mean_cosine(&Features::zeros(original.grid, 24)), 1.0);
        assert_eq!(ProbeFeatures::from_bytes(&[0; 15], 4), None);
    }
}
