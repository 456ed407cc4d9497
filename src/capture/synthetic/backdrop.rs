//! What the objects move over: a textured ground with clutter on it, somewhat larger than the picture.

use super::arithmetic::{Noise, Random, cos, sin, smoothstep};
use super::sprite::{Sprite, hsv, palette_hue};

/// The ground.
pub struct Backdrop {
    /// Pixels, margins on both sides included.
    pub width: usize,
    /// (height, width, 3): red, green, blue
    pub pixels: Vec<u8>,
    /// How far the camera may move to either side of the middle; pixels.
    pub margin: usize,
}

impl Backdrop {
    /// The ground under a picture of `width` x `height` pixels and `margin` more on each side, whose distances are fractions
    /// of `unit` pixels.
    pub fn new(seed: u64, [width, height]: [usize; 2], unit: f64, objects: usize, margin: usize) -> Backdrop {
        let (wide, high) = (width + 2 * margin, height + 2 * margin);
        let mut pixels = ground(seed, wide, high, unit as f32);
        scatter(seed, &mut pixels, wide, high, unit, objects);
        Backdrop { width: wide, pixels, margin }
    }

    /// Where the camera looks, `part` of the way through the plan: pixels from the left and the top of the ground.
    pub fn camera(&self, part: f64) -> [f64; 2] {
        let margin = self.margin as f64 - 2.0;
        // A slow wander, a slower one, and a hand that is not quite steady. All close with the plan.
        let sway = |a: f64, b: f64, c: f64, phase: f64| {
            0.6 * sin(a * part + phase) + 0.34 * sin(b * part + 2.0 * phase) + 0.05 * sin(c * part + 3.0 * phase)
        };
        [sway(5.0, 11.0, 97.0, 0.1), sway(4.0, 9.0, 83.0, 0.45)].map(|s| margin * (1.0 + s))
    }
}

/// Shade, light and patches of each ground: red, green, blue in [0, 255].
const GROUNDS: [[[f32; 3]; 3]; 6] = [
    // Sand and slate.
    [[112.0, 98.0, 82.0], [182.0, 164.0, 132.0], [108.0, 118.0, 126.0]],
    // Moss and stone.
    [[74.0, 88.0, 66.0], [138.0, 148.0, 108.0], [142.0, 140.0, 132.0]],
    // Clay and concrete.
    [[120.0, 84.0, 70.0], [176.0, 136.0, 112.0], [150.0, 150.0, 146.0]],
    // Sea floor.
    [[58.0, 88.0, 96.0], [116.0, 150.0, 146.0], [170.0, 162.0, 138.0]],
    // Dusk.
    [[84.0, 80.0, 104.0], [146.0, 136.0, 150.0], [168.0, 148.0, 130.0]],
    // Forest floor.
    [[82.0, 68.0, 54.0], [146.0, 122.0, 92.0], [104.0, 118.0, 84.0]],
];

/// Fractal noise through a muted palette, with veins, coarse and fine.
fn ground(seed: u64, width: usize, height: usize, unit: f32) -> Vec<u8> {
    let mut random = Random::new(seed, 0x4752_4f55);
    let tones = GROUNDS[random.below(GROUNDS.len())];
    let mut broad = Noise::new(random.bits(), width, 0.55 * unit, 5);
    let mut patches = Noise::new(random.bits(), width, 0.3 * unit, 5);
    let mut veins = Noise::new(random.bits(), width, 0.22 * unit, 4);
    let mut grain = Noise::new(random.bits(), width, (0.009 * unit).clamp(2.0, 4.5), 2);
    let mut rows = [const { Vec::new() }; 4];
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let [b, p, v, g] = &mut rows;
        broad.row(y, b);
        patches.row(y, p);
        veins.row(y, v);
        grain.row(y, g);
        for x in 0..width {
            let mix = smoothstep(0.3, 0.7, b[x]);
            let patch = 0.8 * smoothstep(0.5, 0.54, p[x]);
            let vein = 1.0 - smoothstep(0.0, 0.02, (v[x] - 0.5).abs());
            let light = (0.84 + 0.32 * g[x]) * (1.0 - 0.3 * vein);
            for channel in 0..3 {
                let [dark, bright, third] = tones.map(|tone| tone[channel]);
                let base = dark + (bright - dark) * mix;
                let value = (base + (third - base) * patch) * light;
                pixels.push((value + 0.5).clamp(0.0, 255.0) as u8);
            }
        }
    }
    pixels
}

/// Things that lie on the ground. Half of them borrow an object's colours, in another shape and paler: enough to
/// mislead a tracker that knows colours alone.
fn scatter(seed: u64, pixels: &mut [u8], width: usize, height: usize, unit: f64, objects: usize) {
    let mut random = Random::new(seed, 0x4c49_5454);
    let count = 18;
    for index in 0..count {
        let radius = unit * random.within(0.035, 0.1);
        let like = random.below(objects.max(1));
        // Another number gives another shape and pattern; its colours are then drawn towards the object's.
        let sprite = Sprite::new(seed ^ 0x5eed, 100 + index, (radius as f32).max(2.5));
        let tint = hsv(palette_hue(seed, like), 0.6, 0.75);
        let (borrowed, paleness) = if index % 2 == 0 { (0.45, 0.62) } else { (0.0, 0.4) };
        // A jittered grid spreads them.
        let cell = ((index % 6) as f64, (index / 6) as f64);
        let x = (cell.0 + random.within(0.1, 0.9)) / 6.0 * width as f64;
        let y = (cell.1 + random.within(0.1, 0.9)) / 3.0 * height as f64;
        let turns = random.unit();
        stamp(pixels, width, height, &sprite, [x, y, cos(turns), sin(turns)], |ground, paint, channel| {
            let paint = paint + (tint[channel] - paint) * borrowed;
            ground + (paint - ground) * paleness
        });
    }
}

/// Draws a sprite at (x, y), turned, through `blend(ground, paint, channel)`.
fn stamp(
    pixels: &mut [u8],
    width: usize,
    height: usize,
    sprite: &Sprite,
    [x, y, cosine, sine]: [f64; 4],
    blend: impl Fn(f32, f32, usize) -> f32,
) {
    let half = sprite.side as f64 / 2.0;
    let reach = f64::from(sprite.radius) + 1.0;
    let range = |at: f64, size: usize| (at - reach).max(0.0) as usize..((at + reach).ceil() as usize).min(size);
    for row in range(y, height) {
        for column in range(x, width) {
            let (dx, dy) = (column as f64 + 0.5 - x, row as f64 + 0.5 - y);
            let (u, v) = (dx * cosine + dy * sine + half, dy * cosine - dx * sine + half);
            let (u, v) = ((u.max(0.0) as usize).min(sprite.side - 1), (v.max(0.0) as usize).min(sprite.side - 1));
            let texel = sprite.texels[v * sprite.side + u];
            let distance = (f32::from(texel[3]) - 128.0) / 127.0 * sprite.band;
            let cover = smoothstep(-0.8, 0.8, distance);
            for channel in 0..3 {
                let ground = &mut pixels[(row * width + column) * 3 + channel];
                let painted = blend(f32::from(*ground), f32::from(texel[channel]), channel);
                *ground = (f32::from(*ground) + (painted - f32::from(*ground)) * cover + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }
}
