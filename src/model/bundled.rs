//! The bundled model: hand-made features that need no training, so that everything works from the first minute.
//!
//! Each patch is described by soft histograms of brightness and two opponent colours, and by the strength of
//! edges in eight directions relative to its surround; then by the same, averaged over 3x3 patches. Each
//! dimension is centred on the frame's mean and scaled by its spread over the frame, so that a cosine tells
//! patches apart that differ in what varies in this picture. The constants were chosen by the region
//! similarity J on a few videos.
//!
//! [`graph`] writes it as convolutions, laid out as a vision transformer's output is. [`by_definition`] computes
//! the same plainly; the probe comes from there, so that a runtime is checked against code that it never ran.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::onnx::{Attribute, Graph, Side, Value};
use crate::embed::{Manifest, Precision, Probe, hex_digest};
use crate::types::{Features, PatchGrid, ProbeFeatures, probe_image};

/// Side of a patch in pixels of the input.
pub const PATCH: usize = 16;
/// Input sizes that the manifest offers, height and width; the graph takes any multiples of the patch.
const INPUT_SIZES: [[usize; 2]; 6] = [[480, 640], [480, 848], [368, 640], [336, 448], [240, 320], [720, 1280]];
/// How many patches of each input size the probe keeps.
const PROBE_PATCHES: usize = 60;

/// Bins of each soft histogram, and where the first and the last lie: brightness, red against green, yellow
/// against blue.
const BINS: usize = 9;
const BIN_RANGES: [[f32; 2]; 3] = [[0.0, 1.0], [-0.4, 0.4], [-0.4, 0.4]];
/// What red, green and blue contribute to each of the three.
const OPPONENTS: [[f32; 3]; 3] = [[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]];
const COLOURS: usize = 3 * BINS;
/// Directions of edges, evenly over the circle: light to dark and dark to light count apart.
const DIRECTIONS: usize = 8;
/// Added to the surround's edge strength, so that a flat surround does not blow up noise.
const EDGE_FLOOR: f32 = 0.02;
/// Added before the square root, which evens out small and large fractions.
const ROOT_FLOOR: f32 = 1e-4;
/// Added to a dimension's spread over the frame, so that one that hardly varies does not count for much.
const SPREAD_FLOOR: f32 = 0.05;
/// Weights of colour and edges in the patch, and of colour and edges in its surround.
const WEIGHTS: [f32; 4] = [1.0, 0.4, 0.5, 0.3];
/// Length of an embedding.
pub const DIM: usize = 2 * (COLOURS + DIRECTIONS);

/// Writes `bundled.onnx`, `bundled.probe` and `bundled.toml` to `folder`, the same bytes every time, and returns
/// their paths.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let onnx = graph();
    let probe_of = |[height, width]: [usize; 2]| {
        let features = by_definition(&probe_image(width, height), width, height);
        ProbeFeatures::sample(&features, PROBE_PATCHES).to_bytes()
    };
    let probe: Vec<u8> = INPUT_SIZES.into_iter().flat_map(probe_of).collect();
    let manifest = manifest(&onnx, &probe).to_text("tagalong model bundled");
    let files = [("bundled.onnx", onnx), ("bundled.probe", probe), ("bundled.toml", manifest.into_bytes())];
    files
        .into_iter()
        .map(|(name, bytes)| {
            let path = folder.join(name);
            fs::write(&path, bytes)?;
            Ok(path)
        })
        .collect()
}

fn manifest(onnx: &[u8], probe: &[u8]) -> Manifest {
    Manifest {
        name: "bundled".into(),
        family: "colour-and-edges".into(),
        onnx: "bundled.onnx".into(),
        sha256: hex_digest(onnx),
        patch: PATCH,
        input_sizes: INPUT_SIZES.to_vec(),
        mean: [0.0; 3],
        std: [1.0; 3],
        prefix_tokens: 1,
        output: "last_hidden_state".into(),
        precision: Precision::Fp32,
        dropped_dimensions: Vec::new(),
        licence: "MIT OR Apache-2.0".into(),
        weights: None,
        transform: None,
        probe: Probe { file: "bundled.probe".into(), sha256: hex_digest(probe), patches: PROBE_PATCHES },
    }
}

/// The ONNX graph: `pixel_values` (1, 3, height, width) to `last_hidden_state` (1, 1 + patches, DIM), a class
/// token first, the mean of the patches.
pub fn graph() -> Vec<u8> {
    let mut g = Graph::new("bundled");
    let sides = [Side::Fixed(1), Side::Fixed(3), Side::Open("height"), Side::Open("width")];
    let pixels = g.input("pixel_values", &sides);
    // Half the resolution carries the same statistics at a quarter of the cost.
    let half = average(&mut g, &pixels, 2);

    // A triangular bin is made of three ramps, and an average over a patch may be taken of the ramps first.
    let (ramp_weights, ramp_biases) = ramps();
    let ramps = convolve(&mut g, &half, [COLOURS, 3, 1], ramp_weights, Some(ramp_biases));
    let ramps = g.node("Relu", &[&ramps], &[]);
    let ramps = average(&mut g, &ramps, PATCH as i64 / 2);
    let (bin_weights, bin_biases) = bins();
    let colour = convolve(&mut g, &ramps, [COLOURS, COLOURS, 1], bin_weights, Some(bin_biases));
    // What rounding leaves below zero would have no square root.
    let colour = g.node("Relu", &[&colour], &[]);

    let padded = pad(&mut g, &half);
    let edges = convolve(&mut g, &padded, [DIRECTIONS, 3, 3], edge_weights(), None);
    let edges = g.node("Relu", &[&edges], &[]);
    let edges = average(&mut g, &edges, PATCH as i64 / 2);
    let around = surround(&mut g, &edges);
    let energy = g.node("Mul", &[&around, &around], &[]);
    let over_directions = g.ints(&[1]);
    let energy = g.node("ReduceSum", &[&energy, &over_directions], &[Attribute::Int("keepdims", 1)]);
    let strength = g.node("Sqrt", &[&energy], &[]);
    let floor = g.floats(&[1], vec![EDGE_FLOOR]);
    let strength = g.node("Add", &[&strength, &floor], &[]);
    let edges = g.node("Div", &[&edges, &strength], &[]);

    let colour_around = surround(&mut g, &colour);
    let edges_around = surround(&mut g, &edges);
    let groups: Vec<Value> = [&colour, &edges, &colour_around, &edges_around]
        .into_iter()
        .zip(WEIGHTS.into_iter().zip([COLOURS, DIRECTIONS, COLOURS, DIRECTIONS]))
        .map(|(group, (weight, dims))| standardise(&mut g, group, weight / (dims as f32).sqrt()))
        .collect();
    let all: Vec<&Value> = groups.iter().collect();
    let map = g.node("Concat", &all, &[Attribute::Int("axis", 1)]);

    let shape = g.ints(&[1, DIM as i64, -1]);
    let tokens = g.node("Reshape", &[&map, &shape], &[]);
    let tokens = g.node("Transpose", &[&tokens], &[Attribute::Ints("perm", &[0, 2, 1])]);
    let means = [Attribute::Ints("axes", &[1]), Attribute::Int("keepdims", 1)];
    let class = g.node("ReduceMean", &[&tokens], &means);
    let tokens = g.node("Concat", &[&class, &tokens], &[Attribute::Int("axis", 1)]);
    g.output("last_hidden_state", &tokens, &[Side::Fixed(1), Side::Open("tokens"), Side::Fixed(DIM as i64)]);
    g.to_bytes().expect("its constants are all there")
}

/// Means over squares of `side`, without overlap.
fn average(g: &mut Graph<'_>, value: &Value, side: i64) -> Value {
    let square = [side, side];
    g.node("AveragePool", &[value], &[Attribute::Ints("kernel_shape", &square), Attribute::Ints("strides", &square)])
}

/// One row and column more on each side, the outermost ones again.
fn pad(g: &mut Graph<'_>, value: &Value) -> Value {
    let pads = g.ints(&[0, 0, 1, 1, 0, 0, 1, 1]);
    g.node("Pad", &[value, &pads], &[Attribute::Text("mode", "edge")])
}

/// Means over 3x3 patches.
fn surround(g: &mut Graph<'_>, value: &Value) -> Value {
    let padded = pad(g, value);
    g.node("AveragePool", &[&padded], &[Attribute::Ints("kernel_shape", &[3, 3]), Attribute::Ints("strides", &[1, 1])])
}

/// A convolution; `shape` is outputs, inputs, side of the kernel.
fn convolve(g: &mut Graph<'_>, value: &Value, shape: [usize; 3], weights: Vec<f32>, bias: Option<Vec<f32>>) -> Value {
    let [outputs, inputs, side] = shape.map(|n| n as i64);
    let weights = g.floats(&[outputs, inputs, side, side], weights);
    let bias = bias.map(|bias| g.floats(&[outputs], bias));
    let inputs: Vec<&Value> = [value, &weights].into_iter().chain(&bias).collect();
    g.node("Conv", &inputs, &[Attribute::Ints("kernel_shape", &[side, side])])
}

/// Square roots, centred and scaled over the frame, times `weight`.
fn standardise(g: &mut Graph<'_>, value: &Value, weight: f32) -> Value {
    let over_frame = [Attribute::Ints("axes", &[2, 3]), Attribute::Int("keepdims", 1)];
    let floor = g.floats(&[1], vec![ROOT_FLOOR]);
    let raised = g.node("Add", &[value, &floor], &[]);
    let root = g.node("Sqrt", &[&raised], &[]);
    let mean = g.node("ReduceMean", &[&root], &over_frame);
    let centred = g.node("Sub", &[&root, &mean], &[]);
    let squares = g.node("Mul", &[&centred, &centred], &[]);
    let variance = g.node("ReduceMean", &[&squares], &over_frame);
    let spread = g.node("Sqrt", &[&variance], &[]);
    let floor = g.floats(&[1], vec![SPREAD_FLOOR]);
    let spread = g.node("Add", &[&spread, &floor], &[]);
    let scaled = g.node("Div", &[&centred, &spread], &[]);
    let weight = g.floats(&[1], vec![weight]);
    g.node("Mul", &[&scaled, &weight], &[])
}

fn bin_centre(channel: usize, bin: usize) -> f32 {
    let [low, high] = BIN_RANGES[channel];
    low + (high - low) * bin as f32 / (BINS - 1) as f32
}

fn bin_width(channel: usize) -> f32 {
    (BIN_RANGES[channel][1] - BIN_RANGES[channel][0]) / (BINS - 1) as f32
}

/// Ramp `i` of a channel is how many bin widths the channel lies above bin `i`: (COLOURS, 3), (COLOURS).
fn ramps() -> (Vec<f32>, Vec<f32>) {
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    for (channel, opponents) in OPPONENTS.iter().enumerate() {
        for bin in 0..BINS {
            let width = bin_width(channel);
            weights.extend(opponents.map(|w| w / width));
            biases.push(-bin_centre(channel, bin) / width);
        }
    }
    (weights, biases)
}

/// Bins from the ramps after their rectification: (COLOURS, COLOURS), (COLOURS). Inside, a bin rises and falls
/// over one width to each side; the outermost take in what lies beyond them.
fn bins() -> (Vec<f32>, Vec<f32>) {
    let mut weights = vec![0.0; COLOURS * COLOURS];
    let mut biases = vec![0.0; COLOURS];
    for channel in 0..3 {
        let at = |bin: usize| channel * BINS + bin;
        let mut set = |bin: usize, ramp: usize, weight: f32| weights[at(bin) * COLOURS + at(ramp)] = weight;
        for bin in 1..BINS - 1 {
            set(bin, bin - 1, 1.0);
            set(bin, bin, -2.0);
            set(bin, bin + 1, 1.0);
        }
        set(0, 0, -1.0);
        set(0, 1, 1.0);
        set(BINS - 1, BINS - 2, 1.0);
        set(BINS - 1, BINS - 1, -1.0);
        biases[at(0)] = 1.0;
    }
    (weights, biases)
}

/// Cosine and sine of each direction, exact to the last bit on every machine.
fn directions() -> [[f32; 2]; DIRECTIONS] {
    const H: f32 = std::f32::consts::FRAC_1_SQRT_2;
    [[1.0, 0.0], [H, H], [0.0, 1.0], [-H, H], [-1.0, 0.0], [-H, -H], [0.0, -1.0], [H, -H]]
}

/// Sobel's kernels across and down, (3, 3), an eighth of their usual size.
const SOBEL: [[[f32; 3]; 3]; 2] = [
    [[-0.125, 0.0, 0.125], [-0.25, 0.0, 0.25], [-0.125, 0.0, 0.125]],
    [[-0.125, -0.25, -0.125], [0.0, 0.0, 0.0], [0.125, 0.25, 0.125]],
];

/// Derivatives of brightness in each direction: (DIRECTIONS, 3, 3, 3).
fn edge_weights() -> Vec<f32> {
    let mut weights = Vec::new();
    for [cosine, sine] in directions() {
        for share in OPPONENTS[0] {
            let taps = SOBEL[0].as_flattened().iter().zip(SOBEL[1].as_flattened());
            weights.extend(taps.map(|(across, down)| share * (cosine * across + sine * down)));
        }
    }
    weights
}

/// A few numbers for each place of a grid: (rows, cols, depth).
#[derive(Clone)]
struct Map {
    rows: usize,
    cols: usize,
    depth: usize,
    data: Vec<f64>,
}

impl Map {
    fn from_fn(rows: usize, cols: usize, depth: usize, mut value: impl FnMut(usize, usize, usize) -> f64) -> Map {
        let mut data = Vec::with_capacity(rows * cols * depth);
        for row in 0..rows {
            for col in 0..cols {
                (0..depth).for_each(|d| data.push(value(row, col, d)));
            }
        }
        Map { rows, cols, depth, data }
    }

    /// The value there, or the nearest one where that is outside.
    fn at(&self, row: isize, col: isize, d: usize) -> f64 {
        let row = row.clamp(0, self.rows as isize - 1) as usize;
        let col = col.clamp(0, self.cols as isize - 1) as usize;
        self.data[(row * self.cols + col) * self.depth + d]
    }

    fn averaged(&self, side: usize) -> Map {
        Map::from_fn(self.rows / side, self.cols / side, self.depth, |row, col, d| {
            let cells = (0..side * side).map(|i| ((row * side + i / side) as isize, (col * side + i % side) as isize));
            cells.map(|(y, x)| self.at(y, x, d)).sum::<f64>() / (side * side) as f64
        })
    }

    fn surround(&self) -> Map {
        Map::from_fn(self.rows, self.cols, self.depth, |row, col, d| {
            let cells = (0..9).map(|i| (row as isize + i / 3 - 1, col as isize + i % 3 - 1));
            cells.map(|(y, x)| self.at(y, x, d)).sum::<f64>() / 9.0
        })
    }
}

/// The features of an RGB picture, (height, width, 3), computed as they are defined and in 64-bit floats.
pub fn by_definition(rgb: &[u8], width: usize, height: usize) -> Features {
    let pixels = Map::from_fn(height, width, 3, |y, x, c| f64::from(rgb[(y * width + x) * 3 + c]) / 255.0);
    let half = pixels.averaged(2);
    let opponent = |y: isize, x: isize, channel: usize| -> f64 {
        (0..3).map(|c| f64::from(OPPONENTS[channel][c]) * half.at(y, x, c)).sum()
    };
    let histogram = Map::from_fn(half.rows, half.cols, COLOURS, |y, x, d| {
        let (channel, bin) = (d / BINS, d % BINS);
        let [low, high] = BIN_RANGES[channel].map(f64::from);
        let value = opponent(y as isize, x as isize, channel).clamp(low, high);
        (1.0 - (value - f64::from(bin_centre(channel, bin))).abs() / f64::from(bin_width(channel))).max(0.0)
    });
    let colour = histogram.averaged(PATCH / 2);
    let derivatives = Map::from_fn(half.rows, half.cols, DIRECTIONS, |y, x, d| {
        let [cosine, sine] = directions()[d].map(f64::from);
        let slope = |kernel: [[f32; 3]; 3]| -> f64 {
            let taps =
                (0..9).map(|i| (f64::from(kernel[i / 3][i % 3]), (y + i / 3) as isize - 1, (x + i % 3) as isize - 1));
            taps.map(|(w, y, x)| {
                w * opponent(y.clamp(0, half.rows as isize - 1), x.clamp(0, half.cols as isize - 1), 0)
            })
            .sum()
        };
        (cosine * slope(SOBEL[0]) + sine * slope(SOBEL[1])).max(0.0)
    });
    let strengths = derivatives.averaged(PATCH / 2);
    let around = strengths.surround();
    let edges = Map::from_fn(strengths.rows, strengths.cols, DIRECTIONS, |y, x, d| {
        let energy: f64 = (0..DIRECTIONS).map(|d| around.at(y as isize, x as isize, d).powi(2)).sum();
        strengths.at(y as isize, x as isize, d) / (energy.sqrt() + f64::from(EDGE_FLOOR))
    });
    let groups = [colour.clone(), edges.clone(), colour.surround(), edges.surround()];
    let grid = PatchGrid { rows: height / PATCH, cols: width / PATCH, patch: PATCH };
    let mut features = Features::zeros(grid, DIM);
    let mut offset = 0;
    for (group, weight) in groups.iter().zip(WEIGHTS) {
        for d in 0..group.depth {
            let roots: Vec<f64> =
                (0..grid.len()).map(|p| (group.data[p * group.depth + d] + f64::from(ROOT_FLOOR)).sqrt()).collect();
            let mean = roots.iter().sum::<f64>() / roots.len() as f64;
            let spread = (roots.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / roots.len() as f64).sqrt();
            let scale = f64::from(weight) / (group.depth as f64).sqrt() / (spread + f64::from(SPREAD_FLOOR));
            for (patch, root) in roots.iter().enumerate() {
                features.data[patch * DIM + offset + d] = ((root - mean) * scale) as f32;
            }
        }
        offset += group.depth;
    }
    features.normalise();
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tagalong model bundled` makes what is committed, to the byte.
    #[test]
    fn the_committed_model_is_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        for path in write(folder.path()).unwrap() {
            let name = path.file_name().unwrap();
            assert!(fs::read(&path).unwrap() == fs::read(committed.join(name)).unwrap(), "{name:?} differs");
        }
    }

    #[test]
    fn bins_of_a_patch_sum_to_one_for_each_channel() {
        let (ramp_weights, ramp_biases) = ramps();
        let (bin_weights, bin_biases) = bins();
        for rgb in [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.3], [0.2, 0.9, 0.4], [0.31, 0.42, 0.97]] {
            let ramps: Vec<f32> = (0..COLOURS)
                .map(|i| (0..3).map(|c| ramp_weights[i * 3 + c] * rgb[c]).sum::<f32>() + ramp_biases[i])
                .map(|v| v.max(0.0))
                .collect();
            let bin =
                |i: usize| (0..COLOURS).map(|j| bin_weights[i * COLOURS + j] * ramps[j]).sum::<f32>() + bin_biases[i];
            for channel in 0..3 {
                let sum: f32 = (0..BINS).map(|b| bin(channel * BINS + b)).sum();
                assert!((sum - 1.0).abs() < 1e-4, "{rgb:?}, channel {channel}: {sum}");
            }
        }
    }
}
