//! Soft labels over the patch grid.

use super::PatchGrid;

/// For each patch, how much of it belongs to the background and to each instance. Rows sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelField {
    pub grid: PatchGrid,
    /// Number of instances, the background not counted.
    pub instances: usize,
    /// (rows * cols, instances + 1); column 0 is the background
    pub data: Vec<f32>,
}

impl LabelField {
    /// All background.
    pub fn background(grid: PatchGrid, instances: usize) -> LabelField {
        let mut data = vec![0.0; grid.len() * (instances + 1)];
        data.iter_mut().step_by(instances + 1).for_each(|v| *v = 1.0);
        LabelField { grid, instances, data }
    }

    /// The labels of patch `index`, (instances + 1).
    pub fn row(&self, index: usize) -> &[f32] {
        let columns = self.instances + 1;
        &self.data[index * columns..(index + 1) * columns]
    }
}
