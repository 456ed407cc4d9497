//! What quantizing cost.

use std::fmt;

use serde::Serialize;

use crate::types::Features;

/// What every layer cost, and the whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizeReport {
    pub layers: Vec<LayerReport>,
    pub agreement: Agreement,
    /// Of the ONNX file.
    pub bytes: usize,
    /// Of the one in floats, without what its output does not need.
    pub bytes_before: usize,
    /// That were measured on.
    pub pictures: usize,
}

/// One part of the network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// That of its weights.
    pub name: String,
    pub shape: Vec<usize>,
    /// The exponent of its smoothing; 0 where it is not smoothed.
    pub smoothing: f32,
    /// Of the layer's own output: the length of its error relative to its own. Absent where only the storage is in 8 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// Of the network's features, if it alone is quantized: 1 minus the mean cosine.
    pub loss: f64,
    /// Kept in floats.
    pub kept: bool,
}

/// How like features are to the exact ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Over all patches of all pictures.
    pub mean_cosine: f64,
    /// The cosine that one patch in a hundred is below.
    pub percentile_1_cosine: f64,
    /// Share of the patches whose nearest neighbour in the next picture of the video is the same patch.
    pub same_neighbour: f64,
}

impl Agreement {
    /// Compares features of the same pictures; two that follow each other are neighbours in a video.
    pub fn of(exact: &[Features], got: &[Features]) -> Agreement {
        let mut cosines: Vec<f64> = Vec::new();
        for (exact, got) in exact.iter().zip(got) {
            cosines.extend((0..exact.grid.len()).map(|patch| f64::from(dot(exact.row(patch), got.row(patch)))));
        }
        // One that is not a number is as bad as can be.
        cosines.iter_mut().filter(|cosine| cosine.is_nan()).for_each(|cosine| *cosine = -1.0);
        cosines.sort_by(f64::total_cmp);
        let pairs = exact.chunks_exact(2).zip(got.chunks_exact(2));
        let same: Vec<bool> =
            pairs.flat_map(|(exact, got)| neighbours(exact).zip(neighbours(got)).map(|(a, b)| a == b)).collect();
        Agreement {
            mean_cosine: cosines.iter().sum::<f64>() / cosines.len().max(1) as f64,
            percentile_1_cosine: cosines.get(cosines.len() / 100).copied().unwrap_or(1.0),
            same_neighbour: same.iter().filter(|same| **same).count() as f64 / same.len().max(1) as f64,
        }
    }

    /// 1 minus the mean cosine.
    pub fn loss(&self) -> f64 {
        1.0 - self.mean_cosine
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// For each patch of the first picture, the most similar one of the second.
fn neighbours(pair: &[Features]) -> impl Iterator<Item = usize> {
    let view = |features: &Features| {
        ndarray::ArrayView2::from_shape((features.grid.len(), features.dim), &features.data)
            .expect("features have a row for each patch")
            .to_owned()
    };
    let similar = view(&pair[0]).dot(&view(&pair[1]).t());
    let nearest = similar
        .rows()
        .into_iter()
        .map(|row| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(patch, _)| patch));
    nearest.collect::<Vec<usize>>().into_iter()
}

impl QuantizeReport {
    /// The whole, in a sentence.
    pub fn summary(&self) -> String {
        let Agreement { mean_cosine, percentile_1_cosine, same_neighbour } = self.agreement;
        format!(
            "{} bytes, {:.1}% of {}; over {} pictures: mean cosine {mean_cosine:.5}, one patch in a hundred below \
             {percentile_1_cosine:.5}, same nearest neighbour in the next picture {:.1}%",
            self.bytes,
            100.0 * self.bytes as f64 / self.bytes_before as f64,
            self.bytes_before,
            self.pictures,
            100.0 * same_neighbour,
        )
    }
}

impl fmt::Display for QuantizeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0).max(5);
        writeln!(f, "{:width$}  {:>14}  smoothing  own error  loss      kept in", "layer", "shape")?;
        for layer in &self.layers {
            let shape = layer.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            let smoothing = if layer.smoothing > 0.0 { format!("{:.2}", layer.smoothing) } else { "-".into() };
            let error = layer.error.map_or("-".into(), |error| format!("{error:.4}"));
            let kept = if layer.kept { "floats" } else { "8 bits" };
            writeln!(f, "{:width$}  {shape:>14}  {smoothing:>9}  {error:>9}  {:.6}  {kept}", layer.name, layer.loss)?;
        }
        writeln!(f, "\n{}", self.summary())
    }
}
