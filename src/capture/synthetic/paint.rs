//! The loops over pixels: ground, shadows, objects, light and noise. All of it in integers.

use std::ops::Range;

use super::arithmetic::{Random, cos, hash, sin};
use super::backdrop::Backdrop;
use super::screenplay::Pose;
use super::sprite::Sprite;

/// Copies the part of the ground that the camera at `camera` sees into `rgb`, (height, width, 3), to a
/// 256th of a pixel.
pub fn paint_ground(backdrop: &Backdrop, camera: [f64; 2], width: usize, rgb: &mut [u8]) {
    let [(left, right_part), (top, below_part)] = camera.map(|at| {
        let steps = (at * 256.0) as usize;
        (steps / 256, (steps % 256) as u16)
    });
    // Bilinear weights, the same for every pixel; they sum to 256, so that no sum leaves 16 bits.
    let both = ((u32::from(right_part) * u32::from(below_part)) >> 8) as u16;
    let (right_only, below_only) = (right_part - both, below_part - both);
    let here = 256 - right_part - below_only;
    let bytes = width * 3;
    for (y, out) in rgb.chunks_exact_mut(bytes).enumerate() {
        let row = |y: usize| &backdrop.pixels[((top + y) * backdrop.width + left) * 3..][..bytes + 3];
        let (above, below) = (row(y), row(y + 1));
        let taps = above.iter().zip(&above[3..]).zip(below.iter().zip(&below[3..]));
        for (out, ((a, b), (c, d))) in out.iter_mut().zip(taps) {
            let sum =
                u16::from(*a) * here + u16::from(*b) * right_only + u16::from(*c) * below_only + u16::from(*d) * both;
            *out = (sum >> 8) as u8;
        }
    }
}

/// A sprite in its place.
pub struct Placed<'a> {
    sprite: &'a Sprite,
    x: f64,
    y: f64,
    scale: f64,
    /// Steps through the sprite for a step to the right in the picture; 65,536ths of a texel. A step down is
    /// (-v, u).
    step: [i64; 2],
    /// Turns a coded distance into coverage.
    sharpness: i64,
}

/// Sprite coordinates and coded distances have this many fractional bits.
const FRACTION: u32 = 16;

impl<'a> Placed<'a> {
    pub fn new(sprite: &'a Sprite, pose: &Pose) -> Placed<'a> {
        let one = f64::from(1 << FRACTION);
        let inverse = one / pose.scale;
        Placed {
            sprite,
            x: pose.x,
            y: pose.y,
            scale: pose.scale,
            step: [(cos(pose.turns) * inverse).round() as i64, (-sin(pose.turns) * inverse).round() as i64],
            sharpness: (f64::from(sprite.band) / 127.0 * pose.scale * one) as i64,
        }
    }

    /// The part of the picture that the object may cover: columns, rows.
    pub fn reach(&self, [width, height]: [usize; 2]) -> [Range<usize>; 2] {
        let reach = self.soft_radius();
        [span(self.x, reach, width), span(self.y, reach, height)]
    }

    /// Pixels: half a pixel more than the silhouette for the soft edge, and half for what sampling blurs.
    fn soft_radius(&self) -> f64 {
        f64::from(self.sprite.radius) * self.scale + 1.0
    }

    /// Calls `visit(row, columns, at)` for each row of the picture that the circle of `reach` pixels around the
    /// sprite meets, with its columns and the sprite coordinates of the first one's centre.
    fn rows(
        &self,
        [x, y]: [f64; 2],
        reach: f64,
        [width, height]: [usize; 2],
        mut visit: impl FnMut(usize, Range<usize>, [i64; 2]),
    ) {
        let middle = (self.sprite.side as i64) << (FRACTION - 1);
        let one = f64::from(1 << FRACTION);
        for row in span(y, reach, height) {
            let dy = row as f64 + 0.5 - y;
            let columns = span(x, (reach * reach - dy * dy).max(0.0).sqrt(), width);
            let dx = columns.start as f64 + 0.5 - x;
            let (dx, dy) = ((dx * one) as i64, (dy * one) as i64);
            let [u, v] = self.step;
            // A texel's centre lies half a texel after its corner.
            let at = [
                middle + ((dx * u - dy * v) >> FRACTION) - (1 << (FRACTION - 1)),
                middle + ((dx * v + dy * u) >> FRACTION) - (1 << (FRACTION - 1)),
            ];
            visit(row, columns, at);
        }
    }

    /// Calls `visit(row, column, texel)` for every pixel that the sprite covers by some part, with its bilinearly
    /// sampled red, green, blue and coverage, each in [0, 256].
    #[inline(always)]
    pub fn for_each_pixel(&self, size: [usize; 2], mut visit: impl FnMut(usize, usize, [i32; 4])) {
        let (side, texels) = (self.sprite.side, &self.sprite.texels[..]);
        let last = ((side - 2) as i64) << FRACTION;
        self.rows([self.x, self.y], self.soft_radius(), size, |row, columns, mut at| {
            for column in columns {
                let [u, v] = at.map(|c| c.clamp(0, last));
                at = [at[0] + self.step[0], at[1] + self.step[1]];
                let index = (v >> FRACTION) as usize * side + (u >> FRACTION) as usize;
                let [fu, fv] = [u, v].map(|c| ((c >> (FRACTION - 8)) & 0xff) as i32);
                let weights = [(256 - fu) * (256 - fv), fu * (256 - fv), (256 - fu) * fv, fu * fv];
                let (above, below) = (&texels[index..index + 2], &texels[index + side..index + side + 2]);
                let taps = [above[0], above[1], below[0], below[1]];
                let mut sums = [0i32; 4];
                for (weight, tap) in weights.iter().zip(&taps) {
                    for (sum, value) in sums.iter_mut().zip(tap) {
                        *sum += weight * i32::from(*value);
                    }
                }
                let outside = i64::from((128 << 16) - sums[3]);
                // Coverage is a half on the outline, and runs from none to all within one pixel of the picture.
                let coverage = (128 - ((outside * self.sharpness) >> (16 + FRACTION - 8))).clamp(0, 256) as i32;
                if coverage > 0 {
                    visit(row, column, [sums[0] >> 16, sums[1] >> 16, sums[2] >> 16, coverage]);
                }
            }
        });
    }

    /// Darkens what lies under the object, below and to the right of it, in `rgb`, (height, width, 3).
    pub fn cast_shadow(&self, size: [usize; 2], rgb: &mut [u8]) {
        let radius = f64::from(self.sprite.radius) * self.scale;
        let centre = [self.x + 0.08 * radius, self.y + 0.14 * radius];
        let reach = radius + f64::from(self.sprite.band) * self.scale;
        let (side, texels) = (self.sprite.side, &self.sprite.texels[..]);
        let last = ((side - 1) as i64) << FRACTION;
        self.rows(centre, reach, size, |row, columns, mut at| {
            let pixels = &mut rgb[(row * size[0] + columns.start) * 3..(row * size[0] + columns.end) * 3];
            for pixel in pixels.chunks_exact_mut(3) {
                let [u, v] = at.map(|c| (c + (1 << (FRACTION - 1))).clamp(0, last) >> FRACTION);
                at = [at[0] + self.step[0], at[1] + self.step[1]];
                let distance = u32::from(texels[v as usize * side + u as usize][3]);
                let light = 256 - ((distance.min(192) * 120) >> 8);
                for channel in pixel {
                    *channel = ((u32::from(*channel) * light) >> 8) as u8;
                }
            }
        });
    }
}

/// Blurs `rgb`, (height, width, 3), over `radius` pixels to either side: the mean of a square, twice, which is nearly round.
pub fn blur(width: usize, radius: usize, rgb: &mut [u8]) {
    if radius == 0 {
        return;
    }
    let height = rgb.len() / (3 * width);
    let mut line = Vec::new();
    for _ in 0..2 {
        for start in (0..height).flat_map(|row| (0..3).map(move |channel| row * width * 3 + channel)) {
            blur_line(rgb, start, 3, width, radius, &mut line);
        }
        for start in 0..3 * width {
            blur_line(rgb, start, 3 * width, height, radius, &mut line);
        }
    }
}

/// Means over `radius` to either side along `count` values from `start`, each `step` after the one before. The last
/// value at either end goes on beyond it. `line` is room to work in.
fn blur_line(rgb: &mut [u8], start: usize, step: usize, count: usize, radius: usize, line: &mut Vec<u8>) {
    line.clear();
    line.extend((0..count).map(|i| rgb[start + i * step]));
    let at = |i: isize| u32::from(line[i.clamp(0, count as isize - 1) as usize]);
    let (reach, window) = (radius as isize, 2 * radius as u32 + 1);
    let mut sum: u32 = (-reach..=reach).map(at).sum();
    for i in 0..count {
        rgb[start + i * step] = ((sum + window / 2) / window) as u8;
        sum = sum + at(i as isize + reach + 1) - at(i as isize - reach);
    }
}

/// The pixels whose centres are at most `reach` from `at`, of `size` in a line.
fn span(at: f64, reach: f64, size: usize) -> Range<usize> {
    let first = (at - reach - 0.5).ceil().clamp(0.0, size as f64) as usize;
    let end = ((at + reach - 0.5).floor() + 1.0).clamp(0.0, size as f64) as usize;
    first..end.max(first)
}

/// Light and sensor: what happens to the colours on their way into the file.
pub struct Sensor {
    /// (3 * width): the vignette along a row, for each byte of it; 65,535 is 1
    across: Vec<u16>,
    /// (height): the vignette down a column; 65,535 is 1
    down: Vec<u16>,
    /// (TABLE): normally distributed, in eighths of a level
    noise: Vec<i16>,
    seed: u64,
}

/// Noise values that rows are cut from; a row of 8,192 pixels fits more than twice.
const TABLE: usize = 1 << 16;

impl Sensor {
    /// A sensor with noise of standard deviation `noise` levels.
    pub fn new(width: usize, height: usize, seed: u64, noise: f32, vignette: bool) -> Sensor {
        let falloff = |at: usize, size: usize| {
            let r = (at as f64 + 0.5) / size as f64 * 2.0 - 1.0;
            let strength = if vignette { 0.16 } else { 0.0 };
            ((1.0 - strength * r * r * r * r) * 65_535.0) as u16
        };
        let mut random = Random::new(seed, 0x4e4f_4953);
        let mut normal = || {
            // The sum of twelve uniform numbers has variance 1.
            let sum: f64 = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
            (sum * f64::from(noise) * 8.0).round() as i16
        };
        Sensor {
            across: (0..3 * width).map(|i| falloff(i / 3, width)).collect(),
            down: (0..height).map(|y| falloff(y, height)).collect(),
            noise: (0..TABLE).map(|_| normal()).collect(),
            seed,
        }
    }

    /// Applies gain for red, green and blue, the vignette and frame `index`'s noise to `rgb`, (height, width, 3).
    /// `gain_row` is room to work in.
    pub fn expose(&self, gains: [f64; 3], index: u64, gain_row: &mut Vec<u16>, rgb: &mut [u8]) {
        let gains = gains.map(|gain| (gain * 4096.0).clamp(0.0, 16_383.0) as u32);
        gain_row.clear();
        gain_row.extend(
            self.across.iter().zip(gains.iter().cycle()).map(|(v, gain)| ((u32::from(*v) * gain) >> 16) as u16),
        );
        let frame = hash(self.seed, index);
        let bytes = self.across.len();
        for (y, row) in rgb.chunks_exact_mut(bytes).enumerate() {
            let from = (hash(frame, y as u64) % (TABLE - bytes) as u64) as usize;
            let noise = &self.noise[from..from + bytes];
            let down = u32::from(self.down[y]);
            for ((value, gain), noise) in row.iter_mut().zip(&*gain_row).zip(noise) {
                let gain = (u32::from(*gain) * down) >> 16;
                // Eighths of a level: seven bits up, sixteen down, and twelve of the gain.
                let lit = (((u32::from(*value) << 7) * gain) >> 16) as i16;
                *value = ((lit + noise + 4) >> 3).clamp(0, 255) as u8;
            }
        }
    }
}
