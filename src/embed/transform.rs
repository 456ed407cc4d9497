//! What is done with patch embeddings before they are normalised, so that a cosine counts what tells objects apart.

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2, Axis, linalg::general_mat_mul};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// A linear change of every patch embedding: its mean is taken out, and then each dimension is scaled, or all are
/// projected onto fewer.
#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    /// (dimensions that come in)
    mean: Vec<f32>,
    change: Change,
}

#[derive(Clone, Debug, PartialEq)]
enum Change {
    /// (dimensions that come in)
    Scale(Vec<f32>),
    /// (dimensions that come out, dimensions that come in), row-major
    Project(Vec<f32>),
}

impl Transform {
    /// Each dimension is centred and multiplied with its number.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn scaling(mean: Vec<f32>, scale: Vec<f32>) -> Transform {
        assert_eq!(mean.len(), scale.len(), "a number for each dimension");
        Transform { mean, change: Change::Scale(scale) }
    }

    /// Each embedding is centred and multiplied with a matrix, (out, in).
    ///
    /// # Panics
    /// When the matrix has no whole number of rows.
    pub fn projection(mean: Vec<f32>, matrix: Vec<f32>) -> Transform {
        assert!(
            !matrix.is_empty() && matrix.len().is_multiple_of(mean.len()),
            "a row for each dimension that comes out"
        );
        Transform { mean, change: Change::Project(matrix) }
    }

    /// Dimensions that come in.
    pub fn inputs(&self) -> usize {
        self.mean.len()
    }

    /// Dimensions that come out.
    pub fn outputs(&self) -> usize {
        match &self.change {
            Change::Scale(scale) => scale.len(),
            Change::Project(matrix) => matrix.len() / self.mean.len(),
        }
    }

    /// Changes rows, (patches, in), to rows, (patches, out). The first are not the same afterwards.
    pub fn apply(&self, rows: &mut [f32], out: &mut [f32]) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let patches = rows.len() / inputs;
        let mean = ArrayView1::from(&self.mean);
        let mut rows = ArrayViewMut2::from_shape((patches, inputs), rows).expect("rows of so many dimensions");
        let mut out = ArrayViewMut2::from_shape((patches, outputs), out).expect("a row for each patch");
        for mut row in rows.axis_iter_mut(Axis(0)) {
            row -= &mean;
        }
        match &self.change {
            Change::Scale(scale) => {
                out.assign(&rows);
                out *= &ArrayView1::from(scale);
            }
            Change::Project(matrix) => {
                let matrix = ArrayView2::from_shape((outputs, inputs), matrix).expect("checked when it was made");
                general_mat_mul(1.0, &rows, &matrix.t(), 0.0, &mut out);
            }
        }
    }

    /// Reads the file of a manifest: safetensors with `mean`, and `scale` or `projection`, 32-bit floats.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Transform, String> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| format!("it is no safetensors file: {e}"))?;
        let floats = |name: &str| {
            let view = tensors.tensor(name).map_err(|_| format!("it has no tensor `{name}`"))?;
            if view.dtype() != Dtype::F32 {
                return Err(format!("its `{name}` holds no 32-bit floats"));
            }
            let floats: Vec<f32> = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            match floats.iter().all(|v| v.is_finite()) {
                true => Ok((view.shape().to_vec(), floats)),
                false => Err(format!("its `{name}` holds numbers that are not finite")),
            }
        };
        let (shape, mean) = floats("mean")?;
        let [inputs] = shape[..] else { return Err(format!("its `mean` has the shape {shape:?}")) };
        let (name, projects) =
            if tensors.names().contains(&"projection") { ("projection", true) } else { ("scale", false) };
        let (shape, numbers) = floats(name)?;
        match shape[..] {
            [outputs, of] if projects && of == inputs && (1..=inputs).contains(&outputs) => {
                Ok(Transform::projection(mean, numbers))
            }
            [of] if !projects && of == inputs && inputs > 0 => Ok(Transform::scaling(mean, numbers)),
            _ => Err(format!("its `{name}` of the shape {shape:?} does not fit its `mean` of {inputs}")),
        }
    }

    /// As a file holds it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = |floats: &[f32]| -> Vec<u8> { floats.iter().flat_map(|v| v.to_le_bytes()).collect() };
        let (name, shape, numbers) = match &self.change {
            Change::Scale(scale) => ("scale", vec![scale.len()], bytes(scale)),
            Change::Project(matrix) => ("projection", vec![self.outputs(), self.inputs()], bytes(matrix)),
        };
        let mean = bytes(&self.mean);
        let view = |shape, data| TensorView::new(Dtype::F32, shape, data).expect("as many bytes as the shape says");
        let tensors = [("mean", view(vec![self.inputs()], &mean)), (name, view(shape, &numbers))];
        safetensors::serialize(tensors, None).expect("tensors of known types")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mix = |i: u32| (i ^ seed).wrapping_mul(0x7feb_352d).rotate_left(13).wrapping_mul(0x846c_a68b);
        (0..count as u32).map(|i| (mix(i) >> 8) as f32 / (1u32 << 23) as f32 - 1.0).collect()
    }

    #[test]
    fn rows_are_centred_and_scaled_or_projected() {
        let (patches, inputs, outputs) = (7, 10, 3);
        let (mean, scale, matrix) = (numbers(inputs, 1), numbers(inputs, 2), numbers(inputs * outputs, 3));
        let rows = numbers(patches * inputs, 4);
        let centred = |patch: usize, i: usize| rows[patch * inputs + i] - mean[i];

        let mut out = vec![0.0; patches * inputs];
        Transform::scaling(mean.clone(), scale.clone()).apply(&mut rows.clone(), &mut out);
        for (at, got) in out.iter().enumerate() {
            let expected = centred(at / inputs, at % inputs) * scale[at % inputs];
            assert!((got - expected).abs() < 1e-6, "{at}");
        }
        let mut out = vec![f32::NAN; patches * outputs];
        Transform::projection(mean.clone(), matrix.clone()).apply(&mut rows.clone(), &mut out);
        for (at, got) in out.iter().enumerate() {
            let (patch, o) = (at / outputs, at % outputs);
            let expected: f32 = (0..inputs).map(|i| matrix[o * inputs + i] * centred(patch, i)).sum();
            assert!((got - expected).abs() < 1e-5, "{at}");
        }
    }

    #[test]
    fn a_file_is_read_or_explained() {
        for transform in
            [Transform::scaling(numbers(5, 1), numbers(5, 2)), Transform::projection(numbers(6, 3), numbers(12, 4))]
        {
            let bytes = transform.to_bytes();
            assert_eq!(Transform::from_bytes(&bytes), Ok(transform));
            for cut in [0, 7, 30, bytes.len() - 1] {
                assert!(Transform::from_bytes(&bytes[..cut]).is_err(), "{cut}");
            }
        }
        let refusal = |transform: Transform| Transform::from_bytes(&transform.to_bytes()).unwrap_err();
        assert!(refusal(Transform::scaling(vec![0.0, f32::NAN], vec![1.0; 2])).contains("not finite"));
        // More dimensions than came in are no projection.
        assert!(refusal(Transform::projection(vec![0.0; 2], vec![1.0; 6])).contains("does not fit"));
    }
}
