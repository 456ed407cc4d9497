//! Noise taken out of a picture before a backbone sees it.
//!
//! A sensor in the dark gives each pixel an error of its own, and each patch's embedding with it. How much is told by the flattest
//! parts of the picture, after Immerkær (Computer Vision and Image Understanding 64, 1996). A picture without noise to speak of
//! stays as it is, to the bit. Another is smoothed by itself as a guided filter does (He, Sun and Tang, TPAMI 35, 2013), whose
//! epsilon follows from the noise's own variance: what varies little more than that becomes flat, and edges stay.

use crate::types::InputTensor;

/// Noise of a smaller standard deviation is left alone, in levels of [0, 1].
const LEAST: f32 = 8.0 / 255.0;
/// Windows of the filter have twice as many pixels a side, and one.
const RADIUS: usize = 2;
/// A window whose variance is less than so many times the noise's becomes flat. To lose some texture costs embeddings less than to
/// keep some noise.
const FLAT: f32 = 4.0;
/// Side of the blocks that noise is measured in, in pixels.
const BLOCK: usize = 16;
/// The block that tells is flatter than all but this part of them.
const FLATTEST: f32 = 0.25;

/// Takes noise out of pictures. Its buffers are used again.
pub struct Denoiser {
    /// What red, green and blue in [0, 1] were divided by.
    std: [f32; 3],
    /// Offset of each channel, (height, width) each.
    offsets: [Vec<f32>; 3],
    /// How much of a pixel's difference to its window's mean stays, (height, width).
    gain: Vec<f32>,
    means: Means,
}

impl Denoiser {
    /// For pictures whose red, green and blue were divided by `std`.
    pub fn new(std: [f32; 3]) -> Denoiser {
        Denoiser { std, offsets: Default::default(), gain: Vec::new(), means: Means::default() }
    }

    /// Smooths a picture that has noise, and returns whether it had any to speak of.
    pub fn run(&mut self, picture: &mut InputTensor) -> bool {
        let (width, area) = (picture.width, picture.width * picture.height);
        let sigma = noise(&picture.data[area..2 * area], width).map_or(0.0, |sigma| sigma * self.std[1]);
        if sigma < LEAST {
            return false;
        }
        // In levels of [0, 1] the noise of all channels is the same.
        let weights = self.std.map(|std| std * std);
        let flat = FLAT * 3.0 * sigma * sigma;
        let channels: Vec<&[f32]> = picture.data.chunks_exact(area).collect();
        let power = |pixel: usize| channels.iter().zip(weights).map(|(c, w)| w * c[pixel] * c[pixel]).sum::<f32>();
        self.gain.clear();
        self.gain.extend((0..area).map(power));
        self.means.run(&mut self.gain, width, RADIUS);
        for (offset, channel) in self.offsets.iter_mut().zip(&channels) {
            offset.clear();
            offset.extend_from_slice(channel);
            self.means.run(offset, width, RADIUS);
        }
        for (pixel, gain) in self.gain.iter_mut().enumerate() {
            let of_means: f32 = self.offsets.iter().zip(weights).map(|(mean, w)| w * mean[pixel] * mean[pixel]).sum();
            let variance = *gain - of_means;
            *gain = if variance > flat { 1.0 - flat / variance } else { 0.0 };
        }
        for offset in &mut self.offsets {
            offset.iter_mut().zip(&self.gain).for_each(|(mean, gain)| *mean *= 1.0 - gain);
            self.means.run(offset, width, RADIUS);
        }
        self.means.run(&mut self.gain, width, RADIUS);
        for (channel, offset) in picture.data.chunks_exact_mut(area).zip(&self.offsets) {
            let pixels = channel.iter_mut().zip(&self.gain).zip(offset);
            pixels.for_each(|((value, gain), offset)| *value = gain * *value + offset);
        }
        true
    }
}

/// The standard deviation of the noise of a plane, in its own units; `None` where it is smaller than a block.
fn noise(plane: &[f32], width: usize) -> Option<f32> {
    let starts = |side: usize| (1..side.saturating_sub(BLOCK)).step_by(BLOCK);
    let block = |top: usize, left: usize| {
        let row = |y: usize| &plane[y * width + left - 1..][..BLOCK + 2];
        let line = |y: usize| {
            let (above, here, below) = (row(y - 1), row(y), row(y + 1));
            let across = |row: &[f32], x: usize| row[x] - 2.0 * row[x + 1] + row[x + 2];
            (0..BLOCK).map(|x| (across(above, x) - 2.0 * across(here, x) + across(below, x)).abs()).sum::<f32>()
        };
        (top..top + BLOCK).map(line).sum::<f32>() / (BLOCK * BLOCK) as f32
    };
    let mut blocks: Vec<f32> =
        starts(plane.len() / width).flat_map(|top| starts(width).map(move |left| block(top, left))).collect();
    let at = (FLATTEST * blocks.len() as f32) as usize;
    // Of noise of deviation 1 the second difference both ways deviates by 6.
    let to_sigma = (std::f32::consts::PI / 2.0).sqrt() / 6.0;
    (at < blocks.len()).then(|| *blocks.select_nth_unstable_by(at, f32::total_cmp).1 * to_sigma)
}

/// Means over windows, by running sums.
#[derive(Default)]
struct Means {
    copy: Vec<f32>,
    sums: Vec<f32>,
}

impl Means {
    /// Replaces every value of a plane by the mean of the window around it, which ends at the plane's edges.
    fn run(&mut self, plane: &mut [f32], width: usize, radius: usize) {
        let height = plane.len() / width;
        let count = |at: usize, side: usize| ((at + radius + 1).min(side) - at.saturating_sub(radius)) as f32;
        for row in plane.chunks_exact_mut(width) {
            self.copy.clear();
            self.copy.extend_from_slice(row);
            let mut sum: f32 = self.copy.iter().take(radius).sum();
            for (x, value) in row.iter_mut().enumerate() {
                sum += self.copy.get(x + radius).unwrap_or(&0.0);
                sum -= x.checked_sub(radius + 1).map_or(0.0, |left| self.copy[left]);
                *value = sum / count(x, width);
            }
        }
        self.copy.clear();
        self.copy.extend_from_slice(plane);
        let rows: Vec<&[f32]> = self.copy.chunks_exact(width).collect();
        self.sums.clear();
        self.sums.resize(width, 0.0);
        let add = |row: Option<&&[f32]>, sign: f32, sums: &mut [f32]| {
            sums.iter_mut().zip(row.into_iter().copied().flatten()).for_each(|(sum, value)| *sum += sign * value);
        };
        rows.iter().take(radius).for_each(|row| add(Some(row), 1.0, &mut self.sums));
        for (y, row) in plane.chunks_exact_mut(width).enumerate() {
            add(rows.get(y + radius), 1.0, &mut self.sums);
            add(y.checked_sub(radius + 1).map(|above| &rows[above]), -1.0, &mut self.sums);
            let scale = 1.0 / count(y, height);
            row.iter_mut().zip(&self.sums).for_each(|(value, sum)| *value = sum * scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STD: [f32; 3] = [0.229, 0.224, 0.225];

    /// Numbers that look random: the sum of twelve even ones is nearly normal.
    struct Random(u64);

    impl Random {
        fn even(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1u64 << 24) as f32
        }

        fn normal(&mut self) -> f32 {
            (0..12).map(|_| self.even()).sum::<f32>() - 6.0
        }
    }

    /// Boards with sharp edges before a wall that grows lighter to the right, and the same with noise of a standard deviation in
    /// levels of 255.
    fn pictures(sigma: f32) -> [InputTensor; 2] {
        let (width, height) = (320, 240);
        let pixels = width * height;
        let value = |i: usize| {
            let (channel, x, y) = (i / pixels, i % width, i % pixels / width);
            let board = (x / 53 + y / 47) % 3 == 0;
            let level = if board { 0.2 + 0.25 * channel as f32 } else { 0.3 + 0.4 * x as f32 / width as f32 };
            level / STD[channel]
        };
        let clean = InputTensor { width, height, data: (0..3 * pixels).map(value).collect() };
        let (mut noisy, mut random) = (clean.clone(), Random(7));
        for (i, value) in noisy.data.iter_mut().enumerate() {
            *value += sigma / 255.0 / STD[i / pixels] * random.normal();
        }
        [clean, noisy]
    }

    fn distance(a: &InputTensor, b: &InputTensor) -> f64 {
        let square: f64 = a.data.iter().zip(&b.data).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        (square / a.data.len() as f64).sqrt()
    }

    #[test]
    fn noise_is_measured_where_the_picture_is_flat() {
        for sigma in [0.0, 12.0, 31.0, 60.0] {
            let [_, noisy] = pictures(sigma);
            let measured = noise(&noisy.data[320 * 240..2 * 320 * 240], 320).unwrap() * STD[1] * 255.0;
            assert!((measured - sigma).abs() < 0.1 * sigma + 0.5, "{sigma}: {measured}");
        }
        assert_eq!(noise(&[0.0; 17 * 40], 40), None);
    }

    #[test]
    fn a_picture_without_noise_stays_as_it_is_and_another_comes_nearer_to_it() {
        let mut denoiser = Denoiser::new(STD);
        for sigma in [0.0, 4.0] {
            let [_, mut picture] = pictures(sigma);
            let before = picture.clone();
            assert!(!denoiser.run(&mut picture));
            assert_eq!(picture, before);
        }
        for sigma in [15.0, 31.0, 66.0] {
            let [clean, mut noisy] = pictures(sigma);
            let before = distance(&noisy, &clean);
            assert!(denoiser.run(&mut noisy));
            let after = distance(&noisy, &clean);
            assert!(after < 0.5 * before, "{sigma}: {before} to {after}");
        }
    }

    #[test]
    fn means_are_those_of_the_windows() {
        let mut random = Random(3);
        let mut means = Means::default();
        for (width, height, radius) in [(1, 1, 2), (7, 1, 2), (1, 9, 3), (3, 4, 5), (23, 17, 2), (40, 11, 1)] {
            let plane: Vec<f32> = (0..width * height).map(|_| random.normal()).collect();
            let mut got = plane.clone();
            means.run(&mut got, width, radius);
            for (i, got) in got.iter().enumerate() {
                let around = |at: usize, side: usize| at.saturating_sub(radius)..(at + radius + 1).min(side);
                let (rows, columns) = (around(i / width, height), around(i % width, width));
                let window: Vec<f32> = rows
                    .flat_map(|y| columns.clone().map(move |x| (y, x)))
                    .map(|(y, x)| plane[y * width + x])
                    .collect();
                let mean = window.iter().sum::<f32>() / window.len() as f32;
                assert!((got - mean).abs() < 1e-5, "{width}x{height}, {radius}, {i}: {got} {mean}");
            }
        }
    }
}
