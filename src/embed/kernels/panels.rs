//! Right matrices, laid out once for every kernel.

use super::{Aligned, Right};

/// Columns of a panel.
pub const PANEL: usize = 16;
/// A right matrix is filled up with rows of zeros to a multiple of this.
pub const DEPTH_STEP: usize = 64;

/// A right matrix of 8-bit integers in [-127, 127], (depth, columns): panels of 16 columns, in each of which four
/// numbers of a column lie side by side, as the instructions for 8-bit products take them.
#[derive(Default)]
pub struct Panels {
    /// (panels, depth / 4, 16, 4)
    data: Aligned<i8>,
    /// (panels, 16)
    sums: Aligned<i32>,
    depth: usize,
}

impl Panels {
    /// Packs a matrix, (depth, columns) row by row.
    ///
    /// # Panics
    /// When it has not that many numbers.
    pub fn pack(matrix: &[i8], depth: usize, columns: usize) -> Panels {
        assert_eq!(matrix.len(), depth * columns);
        let (padded, panels) = (depth.next_multiple_of(DEPTH_STEP), columns.div_ceil(PANEL));
        let mut data = Aligned::zeros(panels * PANEL * padded);
        let mut sums = Aligned::zeros(panels * PANEL);
        for (k, row) in matrix.chunks_exact(columns.max(1)).enumerate() {
            for (column, value) in row.iter().enumerate() {
                let panel = &mut data[column / PANEL * PANEL * padded..];
                panel[k / 4 * PANEL * 4 + column % PANEL * 4 + k % 4] = *value;
                sums[column] += i32::from(*value);
            }
        }
        Panels { data, sums, depth: padded }
    }

    /// Numbers and sums as [`Panels::parts`] gives them; none where they fit no matrix.
    pub fn of_parts(data: Aligned<i8>, sums: Aligned<i32>) -> Option<Panels> {
        let depth = data.len().checked_div(sums.len())?;
        let fits = depth > 0
            && depth.is_multiple_of(DEPTH_STEP)
            && sums.len().is_multiple_of(PANEL)
            && depth.checked_mul(sums.len()) == Some(data.len());
        fits.then_some(Panels { data, sums, depth })
    }

    /// (panels, depth / 4, 16, 4), and the sum of each column: (panels, 16).
    pub fn parts(&self) -> (&[i8], &[i32]) {
        (&self.data, &self.sums)
    }

    /// Columns, those that fill up the last panel counted.
    pub fn columns(&self) -> usize {
        self.sums.len()
    }

    /// Rows, those of zeros at the end counted.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// All of it.
    pub fn all(&self) -> Right<'_> {
        self.part(0, self.columns() / PANEL)
    }

    /// Panels `from` to `to`.
    pub fn part(&self, from: usize, to: usize) -> Right<'_> {
        Right { panels: &self.data, sums: &self.sums, depth: self.depth }.part(from, to)
    }
}
