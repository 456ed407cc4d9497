//! Numbers that come out the same on every machine.
//!
//! Only integers, and the operations that IEEE 754 defines to the last bit: `+ - * /`, `sqrt`, `floor` and
//! conversions. Rust neither fuses nor reorders them. The functions of the system's mathematics library, which
//! differ from one system to the next, are replaced by the polynomials below.

/// A hash of `seed` and `stream` in turn, every bit of it well mixed (the finaliser of SplitMix64).
pub fn hash(seed: u64, stream: u64) -> u64 {
    let mut z = seed.wrapping_add(stream.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Random numbers that follow from a seed: for set-up alone, since each depends on how many came before.
#[derive(Clone)]
pub struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    /// The numbers of `stream` under `seed`; streams are independent of one another.
    pub fn new(seed: u64, stream: u64) -> Random {
        Random { seed: hash(seed, stream), drawn: 0 }
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.drawn += 1;
        hash(self.seed, self.drawn)
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In [low, high).
    pub fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// In 0..count.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// Puts `items` in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Sine of an angle in turns, to 1e-9 (Taylor's polynomial on a quarter turn).
pub fn sin(turns: f64) -> f64 {
    let turn = turns - turns.floor();
    let (half, sign) = if turn < 0.5 { (turn, 1.0) } else { (turn - 0.5, -1.0) };
    let quarter = if half > 0.25 { 0.5 - half } else { half };
    let x = quarter * std::f64::consts::TAU;
    let q = x * x;
    let series = 1.0 - q / 156.0;
    let series = 1.0 - q / 110.0 * series;
    let series = 1.0 - q / 72.0 * series;
    let series = 1.0 - q / 42.0 * series;
    let series = 1.0 - q / 20.0 * series;
    sign * x * (1.0 - q / 6.0 * series)
}

/// Cosine of an angle in turns.
pub fn cos(turns: f64) -> f64 {
    sin(turns + 0.25)
}

/// The direction of (x, y) in turns, in [0, 1), to 3e-6 (Abramowitz and Stegun 4.4.49, refined once).
pub fn direction(x: f64, y: f64) -> f64 {
    let (ax, ay) = (x.abs(), y.abs());
    let (low, high) = if ax < ay { (ax, ay) } else { (ay, ax) };
    if high == 0.0 {
        return 0.0;
    }
    let t = low / high;
    let q = t * t;
    let series = 0.999_866_0 + q * (-0.330_299_5 + q * (0.180_141_0 + q * (-0.085_133_0 + q * 0.020_835_1)));
    let octant = t * series / std::f64::consts::TAU;
    let quadrant = if ax < ay { 0.25 - octant } else { octant };
    let half = if x < 0.0 { 0.5 - quadrant } else { quadrant };
    let turns = if y < 0.0 { 1.0 - half } else { half };
    if turns >= 1.0 { 0.0 } else { turns }
}

/// 0 below `low`, 1 above `high`, and a smooth step between them.
pub fn smoothstep(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Interpolates between the second and the third of four values at even distances, without ever leaving the
/// interval between those two (Fritsch and Carlson's monotone cubic, with harmonic means as slopes).
pub fn interpolate([before, from, to, after]: [f64; 4], at: f64) -> f64 {
    let slope = |a: f64, b: f64| if a * b > 0.0 { 2.0 * a * b / (a + b) } else { 0.0 };
    let step = to - from;
    let (start, end) = (slope(from - before, step), slope(step, after - to));
    let (s, s2) = (at, at * at);
    let s3 = s2 * s;
    from + start * (s3 - 2.0 * s2 + s) + step * (3.0 * s2 - 2.0 * s3) + end * (s3 - s2)
}

/// Fractal value noise, row by row: several octaves of smoothly interpolated random lattices.
pub struct Noise {
    width: usize,
    octaves: Vec<Octave>,
}

struct Octave {
    seed: u64,
    cell: f32,
    weight: f32,
    /// (width): the lattice cell of each column, and how far into it the column is, smoothed
    columns: Vec<(u32, f32)>,
    /// (cells + 2): the lattice at the row being made
    lattice: Vec<f32>,
}

impl Noise {
    /// Noise whose largest features are `cell` pixels wide, halved at each octave. Rows are `width` long.
    pub fn new(seed: u64, width: usize, cell: f32, octaves: usize) -> Noise {
        let total = (0..octaves).map(halved).sum::<f32>();
        let octaves = (0..octaves).map(|o| {
            let shrink = halved(o);
            let cell = (cell * shrink).max(1.0);
            let columns = (0..width).map(|x| split(x as f32 / cell)).collect::<Vec<_>>();
            let cells = columns.last().map_or(0, |(cell, _)| *cell as usize);
            let lattice = vec![0.0; cells + 2];
            Octave { seed: hash(seed, o as u64), cell, weight: shrink / total, columns, lattice }
        });
        Noise { width, octaves: octaves.collect() }
    }

    /// Row `y`, each value in [0, 1].
    pub fn row(&mut self, y: usize, out: &mut Vec<f32>) {
        out.clear();
        out.resize(self.width, 0.0);
        for octave in &mut self.octaves {
            let (row, down) = split(y as f32 / octave.cell);
            let (above, below) = (hash(octave.seed, u64::from(row)), hash(octave.seed, u64::from(row) + 1));
            for (x, value) in octave.lattice.iter_mut().enumerate() {
                let (a, b) = (lattice_value(above, x), lattice_value(below, x));
                *value = a + (b - a) * down;
            }
            for (value, &(cell, along)) in out.iter_mut().zip(&octave.columns) {
                let (a, b) = (octave.lattice[cell as usize], octave.lattice[cell as usize + 1]);
                *value += octave.weight * (a + (b - a) * along);
            }
        }
    }
}

/// One, halved so many times.
fn halved(times: usize) -> f32 {
    1.0 / (1u64 << times) as f32
}

/// The cell of a lattice coordinate, and the smoothed way into it.
fn split(at: f32) -> (u32, f32) {
    let cell = at.floor();
    let t = at - cell;
    (cell as u32, t * t * (3.0 - 2.0 * t))
}

fn lattice_value(row: u64, x: usize) -> f32 {
    (hash(row, x as u64) >> 40) as f32 / (1u32 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_and_direction_are_those_of_the_mathematics_library() {
        for step in -2000..4000 {
            let turns = f64::from(step) / 1234.5;
            let angle = turns * std::f64::consts::TAU;
            assert!((sin(turns) - angle.sin()).abs() < 1e-7, "sin of {turns} turns");
            assert!((cos(turns) - angle.cos()).abs() < 1e-7, "cos of {turns} turns");
            let found = direction(angle.cos() * 3.0, angle.sin() * 3.0);
            let apart = (found - (turns - turns.floor())).abs();
            assert!((0.0..1.0).contains(&found) && apart.min(1.0 - apart) < 3e-6, "direction of {turns} turns");
        }
        assert_eq!(direction(0.0, 0.0), 0.0);
    }

    #[test]
    fn interpolation_meets_its_ends_and_stays_between_them() {
        let mut random = Random::new(5, 0);
        for _ in 0..1000 {
            let values = [(); 4].map(|()| random.within(-3.0, 3.0));
            assert_eq!(interpolate(values, 0.0), values[1]);
            assert!((interpolate(values, 1.0) - values[2]).abs() < 1e-12);
            let (low, high) = (values[1].min(values[2]) - 1e-12, values[1].max(values[2]) + 1e-12);
            assert!((0..=20).all(|i| (low..=high).contains(&interpolate(values, f64::from(i) / 20.0))));
        }
    }

    #[test]
    fn noise_fills_its_range_and_is_smooth() {
        let (mut row, mut all) = (Vec::new(), Vec::new());
        let mut noise = Noise::new(3, 200, 16.0, 1);
        for y in 0..200 {
            noise.row(y, &mut row);
            assert!(row.windows(2).all(|pair| (pair[0] - pair[1]).abs() < 0.12), "no step wider than a cell's slope");
            all.extend_from_slice(&row);
        }
        let (low, high) = all.iter().fold((1f32, 0f32), |(low, high), v| (low.min(*v), high.max(*v)));
        assert!(low >= 0.0 && high <= 1.0 && low < 0.1 && high > 0.9, "{low} {high}");
    }
}
