//! What an object looks like: a silhouette and a texture, drawn once.

use super::arithmetic::{Noise, Random, cos, direction, sin, smoothstep};

/// An object's picture at scale 1, its centre in the middle.
pub struct Sprite {
    /// Texels.
    pub side: usize,
    /// Texels: nothing of the silhouette is farther from the centre.
    pub radius: f32,
    /// Texels that the coded distance reaches to either side of the outline.
    pub band: f32,
    /// (side, side): red, green, blue, and the distance to the outline: 0 for `band` texels outside or more,
    /// 128 on the outline, 255 for `band` inside or more
    pub texels: Vec<[u8; 4]>,
}

impl Sprite {
    /// The sprite of object `index` (from 0), whose silhouette fills a circle of `radius` pixels.
    pub fn new(seed: u64, index: usize, radius: f32) -> Sprite {
        let mut random = Random::new(seed, 0x0b_0000 + index as u64);
        let outline = Outline::new(seed, index, &mut random);
        let texture = Texture::new(seed, index, &mut random);
        let band = (0.25 * radius).clamp(3.0, 48.0);
        // The band outside belongs to the shadow; two texels more keep bilinear sampling inside.
        let half = (radius + band).ceil() as usize + 2;
        let side = 2 * half;
        let mut grain = Noise::new(random.bits(), side, 0.35 * radius, 4);
        let mut grain_row = Vec::new();
        let mut texels = Vec::with_capacity(side * side);
        for y in 0..side {
            grain.row(y, &mut grain_row);
            for (x, grain) in grain_row.iter().enumerate() {
                let at = [x, y].map(|v| (v as f32 + 0.5 - half as f32) / radius);
                let distance = outline.distance(at) * radius;
                let code = (distance / band * 127.0 + 128.0 + 0.5).clamp(0.0, 255.0) as u8;
                let [r, g, b] = if code == 0 { [0; 3] } else { texture.colour(at, distance / radius, *grain, radius) };
                texels.push([r, g, b, code]);
            }
        }
        Sprite { side, radius, band, texels }
    }
}

/// A silhouette: how far the outline is from the centre in each direction.
pub struct Outline {
    /// (DIRECTIONS + 1): distance as a fraction of the object's radius
    reach: Vec<f32>,
}

const DIRECTIONS: usize = 2048;

impl Outline {
    pub fn new(seed: u64, index: usize, random: &mut Random) -> Outline {
        // Each seed deals the kinds out in its own order, so that neighbours always differ.
        let mut kinds = [0, 1, 2, 3, 4, 5, 6, 7];
        Random::new(seed, 0x4b49_4e44).shuffle(&mut kinds);
        match kinds[index % kinds.len()] {
            0 => Outline::star(5 + random.below(2), random.within(0.5, 0.6)),
            1 => Outline::blob(random),
            2 => Outline::superellipse(random.within(0.58, 0.85), true),
            3 => Outline::polygon(&[
                // A cross with unequal arms.
                (0.95, 0.3),
                (0.36, 0.3),
                (0.36, 0.8),
                (-0.36, 0.8),
                (-0.36, 0.3),
                (-0.8, 0.3),
                (-0.8, -0.3),
                (-0.36, -0.3),
                (-0.36, -0.8),
                (0.36, -0.8),
                (0.36, -0.3),
                (0.95, -0.3),
            ]),
            4 => Outline::irregular(random),
            5 => {
                let (lobes, depth) = ((5 + random.below(4)) as f64, random.within(0.12, 0.2));
                Outline::from_fn(|turns| 1.0 + depth * cos(lobes * turns))
            }
            6 => Outline::polygon(&[
                // An arrow.
                (1.0, 0.0),
                (0.1, 0.85),
                (0.1, 0.4),
                (-0.8, 0.4),
                (-0.8, -0.4),
                (0.1, -0.4),
                (0.1, -0.85),
            ]),
            _ => Outline::superellipse(random.within(0.5, 0.7), false),
        }
    }

    /// The signed distance from a point to the outline, positive inside; both as fractions of the radius. It is
    /// exact to first order near the outline, where it matters.
    pub fn distance(&self, [x, y]: [f32; 2]) -> f32 {
        let from_centre = (x * x + y * y).sqrt();
        let at = direction(f64::from(x), f64::from(y)) * DIRECTIONS as f64;
        let cell = (at as usize).min(DIRECTIONS - 1);
        let (a, b) = (self.reach[cell], self.reach[cell + 1]);
        let reach = a + (b - a) * (at - cell as f64) as f32;
        // Beyond a sharp corner the outline does not go on as its slope says: unbounded, it would grow a thread.
        let slope = ((b - a) * (DIRECTIONS as f32 / std::f32::consts::TAU) / reach).clamp(-2.5, 2.5);
        (reach - from_centre) / (1.0 + slope * slope).sqrt()
    }

    fn from_fn(reach: impl Fn(f64) -> f64) -> Outline {
        let reach: Vec<f64> = (0..=DIRECTIONS).map(|i| reach(i as f64 / DIRECTIONS as f64)).collect();
        let largest = reach.iter().fold(0.0, |a: f64, b| a.max(*b));
        Outline { reach: reach.iter().map(|v| (v / largest) as f32).collect() }
    }

    fn superellipse(aspect: f64, square: bool) -> Outline {
        Outline::from_fn(|turns| {
            let (x, y) = (cos(turns), sin(turns) / aspect);
            let (x2, y2) = (x * x, y * y);
            if square { 1.0 / (x2 * x2 + y2 * y2).sqrt().sqrt() } else { 1.0 / (x2 + y2).sqrt() }
        })
    }

    fn blob(random: &mut Random) -> Outline {
        let harmonics: Vec<[f64; 3]> =
            (2..6).map(|k| [f64::from(k), random.within(0.4, 1.0) * 0.3 / f64::from(k), random.unit()]).collect();
        Outline::from_fn(|turns| {
            1.0 + harmonics.iter().map(|[k, depth, phase]| depth * cos(k * turns + phase)).sum::<f64>()
        })
    }

    fn star(points: usize, inner: f64) -> Outline {
        let corner = |i: usize| {
            let (turns, reach) = (i as f64 / (2 * points) as f64, if i.is_multiple_of(2) { 1.0 } else { inner });
            (reach * cos(turns), reach * sin(turns))
        };
        Outline::polygon(&(0..2 * points).map(corner).collect::<Vec<_>>())
    }

    fn irregular(random: &mut Random) -> Outline {
        let corners = 5 + random.below(3);
        let corner = |i: usize, random: &mut Random| {
            let turns = (i as f64 + random.within(-0.25, 0.25)) / corners as f64;
            let reach = random.within(0.72, 1.0);
            (reach * cos(turns), reach * sin(turns))
        };
        Outline::polygon(&(0..corners).map(|i| corner(i, random)).collect::<Vec<_>>())
    }

    /// Corners in turn around the centre, which must see all of them.
    fn polygon(corners: &[(f64, f64)]) -> Outline {
        Outline::from_fn(|turns| {
            let (dx, dy) = (cos(turns), sin(turns));
            let crossing = |i: usize| {
                let ((ax, ay), (bx, by)) = (corners[i], corners[(i + 1) % corners.len()]);
                let (ex, ey) = (bx - ax, by - ay);
                let across = dx * ey - dy * ex;
                let (ray, edge) = ((ax * ey - ay * ex) / across, (ax * dy - ay * dx) / across);
                (ray.is_finite() && ray > 0.0 && (-1e-9..=1.0 + 1e-9).contains(&edge)).then_some(ray)
            };
            (0..corners.len()).filter_map(crossing).fold(0.05, f64::max)
        })
    }
}

/// How an object is painted: colours, and a pattern of them.
struct Texture {
    /// Two of the pattern, one of the marks; each in [0, 255]
    colours: [[f32; 3]; 3],
    pattern: usize,
    /// Stripes, rows of dots and so on over one radius.
    frequency: f32,
    /// Direction of the pattern: cosine and sine.
    turn: [f32; 2],
    /// Where the mark that breaks the pattern's symmetry lies, and its radius.
    mark: [f32; 3],
}

impl Texture {
    fn new(seed: u64, index: usize, random: &mut Random) -> Texture {
        let mut patterns = [0, 1, 2, 3, 4, 5];
        Random::new(seed, 0x5041_5454).shuffle(&mut patterns);
        let hue = palette_hue(seed, index);
        let main = hsv(hue, random.within(0.7, 0.84) as f32, random.within(0.84, 0.96) as f32);
        // The second colour is a deep, a pale or another one, in turn, so that neighbours differ in that too.
        let second = match index % 3 {
            0 => hsv(hue + random.within(0.4, 0.6), 0.55, 0.3),
            1 => hsv(hue + 0.1, 0.13, 0.95),
            _ => hsv(hue + random.within(0.12, 0.2), 0.8, 0.62),
        };
        let mark = match random.below(3) {
            0 => hsv(hue + 0.08, 0.1, 0.98),
            1 => hsv(hue + 0.5, 0.7, 0.9),
            _ => hsv(hue, 0.6, 0.16),
        };
        let colours = [main, second, mark];
        let turns = random.unit();
        let (mark_turns, mark_far) = (random.unit(), random.within(0.25, 0.38));
        Texture {
            colours,
            pattern: patterns[index % patterns.len()],
            frequency: random.within(1.5, 2.4) as f32,
            turn: [cos(turns) as f32, sin(turns) as f32],
            mark: [
                (cos(mark_turns) * mark_far) as f32,
                (sin(mark_turns) * mark_far) as f32,
                random.within(0.13, 0.19) as f32,
            ],
        }
    }

    /// The colour at a point; `inside` is its distance to the outline, both as fractions of the radius.
    fn colour(&self, [x, y]: [f32; 2], inside: f32, grain: f32, radius: f32) -> [u8; 3] {
        let (u, v) = (x * self.turn[0] - y * self.turn[1], x * self.turn[1] + y * self.turn[0]);
        // Edges of the pattern are a texel and a half wide.
        let soft = 0.75 * self.frequency / radius;
        let stripe = |at: f32| {
            let wave = (at * self.frequency).rem_euclid(1.0);
            smoothstep(0.25 - soft, 0.25 + soft, (wave - 0.5).abs())
        };
        let second = match self.pattern {
            0 => stripe(u),
            1 => {
                let (a, b) = (stripe(u), stripe(v));
                a + b - 2.0 * a * b
            }
            2 => {
                let cell = |at: f32| (at * self.frequency * 1.2).rem_euclid(1.0) - 0.5;
                let (a, b) = (cell(u), cell(v));
                1.0 - smoothstep(0.3 - soft, 0.3 + soft, (a * a + b * b).sqrt())
            }
            3 => stripe((x * x + y * y).sqrt() * 1.2),
            4 => smoothstep(0.46, 0.54, grain),
            _ => stripe(u + 0.22 * sin(f64::from(v * 1.1)) as f32),
        };
        let (dx, dy) = (x - self.mark[0], y - self.mark[1]);
        let edge = 1.5 / radius;
        let mark = 1.0 - smoothstep(self.mark[2] - edge, self.mark[2] + edge, (dx * dx + dy * dy).sqrt());
        // Lit from above left, as a slightly domed thing is; the rim is darker.
        let light = (1.0 - 0.14 * (x + y)) * (0.82 + 0.36 * grain) * (0.62 + 0.38 * smoothstep(0.0, 0.1, inside));
        let mut colour = [0; 3];
        for (channel, value) in colour.iter_mut().enumerate() {
            let [a, b, c] = self.colours.map(|colour| colour[channel]);
            let paint = a + (b - a) * second;
            *value = ((paint + (c - paint) * mark) * light + 0.5).clamp(0.0, 255.0) as u8;
        }
        colour
    }
}

/// The main hue of an object, in turns of the colour wheel: neighbours in number are far apart.
pub fn palette_hue(seed: u64, index: usize) -> f64 {
    let hue = Random::new(seed, 0x4855_4553).unit() + index as f64 * 0.618_033_988_749_895;
    hue - hue.floor()
}

/// Hue in turns, saturation and value in [0, 1], to red, green, blue in [0, 255].
pub fn hsv(hue: f64, saturation: f32, value: f32) -> [f32; 3] {
    let channel = |offset: f64| {
        let at = ((hue * 6.0 + offset).rem_euclid(6.0)) as f32;
        let part = at.min(4.0 - at).clamp(0.0, 1.0);
        255.0 * value * (1.0 - saturation * part)
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_hues_are_the_primary_colours() {
        assert_eq!(hsv(0.0, 1.0, 1.0), [255.0, 0.0, 0.0]);
        assert_eq!(hsv(1.0 / 3.0, 1.0, 1.0), [0.0, 255.0, 0.0]);
        assert_eq!(hsv(2.0 / 3.0, 0.5, 1.0).map(f32::round), [128.0, 128.0, 255.0]);
    }

    #[test]
    fn every_silhouette_fills_its_circle_and_holds_its_centre() {
        for seed in 0..40 {
            for index in 0..8 {
                let outline = Outline::new(seed, index, &mut Random::new(seed, index as u64));
                let (low, high) = outline.reach.iter().fold((9f32, 0f32), |(l, h), r| (l.min(*r), h.max(*r)));
                assert!(high == 1.0 && low > 0.3, "seed {seed}, object {index}: {low} to {high}");
                assert_eq!(outline.reach[0], outline.reach[DIRECTIONS], "the outline closes");
            }
        }
    }

    #[test]
    fn distances_are_those_to_the_nearest_point_of_the_outline() {
        for index in 0..8 {
            let outline = Outline::new(7, index, &mut Random::new(7, index as u64));
            let points: Vec<[f32; 2]> = (0..DIRECTIONS)
                .map(|i| {
                    let angle = i as f32 / DIRECTIONS as f32 * std::f32::consts::TAU;
                    [angle.cos() * outline.reach[i], angle.sin() * outline.reach[i]]
                })
                .collect();
            let mut wrong = 0;
            for (y, x) in (-50..=50).flat_map(|y| (-50..=50).map(move |x| (y, x))) {
                let at = [x as f32 / 45.0, y as f32 / 45.0];
                let found = outline.distance(at);
                let nearest = points.iter().map(|p| (p[0] - at[0]).hypot(p[1] - at[1])).fold(9.0, f32::min);
                // Near corners the first order is not enough; elsewhere near the outline it is.
                wrong += usize::from(nearest < 0.04 && (found.abs() - nearest).abs() > 0.01);
            }
            assert!(wrong < 80, "object {index}: {wrong} points near the outline");
        }
    }
}
