//! How much each dimension of the features varies, and what can be done about those that drown the others.
//!
//! Masked-image models have a few dimensions of very large variance, which a cosine then listens to alone; without them
//! they serve nearest neighbours as well as contrastive ones (arXiv 2401.00463). Variance over time of one and the same
//! object says nothing of what it is, and is what a projection should take away first.

use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::embed::Transform;

/// First and second moments of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    count: u64,
    sum: Vec<f64>,
    /// (dimensions, dimensions)
    products: Array2<f64>,
}

impl Moments {
    pub fn new(dim: usize) -> Moments {
        Moments { count: 0, sum: vec![0.0; dim], products: Array2::zeros((dim, dim)) }
    }

    /// Takes in rows, (any number, dimensions).
    pub fn add(&mut self, rows: ArrayView2<'_, f32>) {
        let rows = rows.mapv(f64::from);
        self.count += rows.nrows() as u64;
        self.sum.iter_mut().zip(rows.sum_axis(Axis(0))).for_each(|(sum, more)| *sum += more);
        self.products += &rows.t().dot(&rows);
    }

    /// Rows that were taken in.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn mean(&self) -> Vec<f64> {
        self.sum.iter().map(|sum| sum / self.count.max(1) as f64).collect()
    }

    /// Of the rows around their mean: (dimensions, dimensions).
    pub fn covariance(&self) -> Array2<f64> {
        let (mean, count) = (self.mean(), self.count.max(1) as f64);
        Array2::from_shape_fn(self.products.dim(), |(a, b)| self.products[[a, b]] / count - mean[a] * mean[b])
    }
}

/// How features vary.
#[derive(Clone, Debug, PartialEq)]
pub struct Variance {
    mean: Vec<f64>,
    /// Over all patches of all pictures.
    covariance: Array2<f64>,
    /// Over time, of the mean features of one object in one video; `None` where no objects were known.
    in_time: Option<Array2<f64>>,
}

/// The mean of the patches that lie in an object for the most part, where there are any: of `rows`, (patches,
/// dimensions), those whose fraction is above a half.
pub fn mean_inside(rows: ArrayView2<'_, f32>, fractions: &[f32]) -> Option<Array1<f32>> {
    let inside: Vec<usize> = (0..fractions.len()).filter(|patch| fractions[*patch] > 0.5).collect();
    rows.select(Axis(0), &inside).mean_axis(Axis(0))
}

/// Gathers how features vary.
#[derive(Clone, Debug)]
pub struct Gathering {
    patches: Moments,
    in_time: Array2<f64>,
    /// Pictures of objects, less one for each object.
    freedom: u64,
}

impl Gathering {
    pub fn new(dim: usize) -> Gathering {
        Gathering { patches: Moments::new(dim), in_time: Array2::zeros((dim, dim)), freedom: 0 }
    }

    /// Takes in a picture's patches: (patches, dimensions).
    pub fn picture(&mut self, rows: ArrayView2<'_, f32>) {
        self.patches.add(rows);
    }

    /// Takes in an object's mean features in the pictures of one video: (pictures, dimensions).
    pub fn object(&mut self, means: ArrayView2<'_, f32>) {
        if means.nrows() < 2 {
            return;
        }
        let mut moments = Moments::new(means.ncols());
        moments.add(means);
        self.in_time += &(moments.covariance() * moments.count() as f64);
        self.freedom += moments.count() - 1;
    }

    pub fn finish(self) -> Variance {
        let in_time = (self.freedom > 0).then(|| self.in_time / self.freedom as f64);
        Variance { mean: self.patches.mean(), covariance: self.patches.covariance(), in_time }
    }
}

impl Variance {
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Of each dimension, over patches.
    pub fn spatial(&self) -> Vec<f64> {
        self.covariance.diag().iter().map(|v| v.max(0.0)).collect()
    }

    /// Of each dimension, over time of the same object.
    pub fn temporal(&self) -> Option<Vec<f64>> {
        self.in_time.as_ref().map(|matrix| matrix.diag().iter().map(|v| v.max(0.0)).collect())
    }

    /// The `count` dimensions that vary most over patches, in rising order.
    pub fn highest(&self, count: usize) -> Vec<usize> {
        let spatial = self.spatial();
        let mut order: Vec<usize> = (0..self.dim()).collect();
        order.sort_by(|a, b| spatial[*b].total_cmp(&spatial[*a]).then(a.cmp(b)));
        let mut highest: Vec<usize> = order.into_iter().take(count).collect();
        highest.sort_unstable();
        highest
    }

    /// Each dimension centred.
    pub fn centring(&self) -> Transform {
        Transform::scaling(self.mean.iter().map(|v| *v as f32).collect(), vec![1.0; self.dim()])
    }

    /// Each dimension centred, and scaled to a variance of 1.
    pub fn standardising(&self) -> Transform {
        let spatial = self.spatial();
        // A dimension that never varies tells nothing, and must not be blown up.
        let floor = spatial.iter().copied().fold(0.0, f64::max) * 1e-12;
        let scale = spatial.iter().map(|v| if *v > floor { v.sqrt().recip() as f32 } else { 0.0 });
        Transform::scaling(self.mean.iter().map(|v| *v as f32).collect(), scale.collect())
    }

    /// Centred; without the `removed` directions that vary most over time of the same object, as far as there are so many
    /// in which it varies at all, the `kept` directions in which patches then vary most.
    ///
    /// # Panics
    /// When more are kept than are left.
    pub fn projecting(&self, removed: usize, kept: usize) -> Transform {
        let dim = self.dim();
        assert!(kept >= 1 && kept + removed <= dim, "directions that there are");
        let mut rest = DMatrix::<f64>::identity(dim, dim);
        if let Some(in_time) = self.in_time.as_ref().filter(|_| removed > 0) {
            for direction in principal(to_matrix(in_time), removed, false) {
                rest -= &direction * direction.transpose();
            }
        }
        let covariance = &rest * to_matrix(&self.covariance) * &rest;
        let directions = principal(covariance, kept, true);
        let matrix = directions.iter().flat_map(|direction| direction.iter().map(|v| *v as f32));
        Transform::projection(self.mean.iter().map(|v| *v as f32).collect(), matrix.collect())
    }
}

fn to_matrix(array: &Array2<f64>) -> DMatrix<f64> {
    DMatrix::from_fn(array.nrows(), array.ncols(), |row, col| array[[row, col]])
}

/// The `count` directions of the largest variance, the largest first, each of unit length. Unless `whole`, fewer where
/// there are not so many in which anything varies.
fn principal(covariance: DMatrix<f64>, count: usize, whole: bool) -> Vec<DMatrix<f64>> {
    // Rounding makes it a little crooked.
    let symmetric = (&covariance + covariance.transpose()) * 0.5;
    let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(symmetric);
    let mut order: Vec<usize> = (0..eigenvalues.len()).collect();
    order.sort_by(|a, b| eigenvalues[*b].total_cmp(&eigenvalues[*a]));
    let dim = eigenvectors.nrows();
    let direction = |at: usize| {
        let column = eigenvectors.column(at);
        // Either sign is right; the same one is the same file.
        let largest = column.iter().copied().fold(0.0f64, |most, v| if v.abs() > most.abs() { v } else { most });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        DMatrix::from_fn(dim, 1, |row, _| column[row] * sign)
    };
    // What is left beside rounding: the directions of the rest are anybody's.
    let floor = eigenvalues.max() * 1e-9;
    order.into_iter().take(count).filter(|at| whole || eigenvalues[*at] > floor).map(direction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: usize, cols: usize, seed: u32) -> Array2<f32> {
        let mix = |i: u32| {
            (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x7feb_352d).rotate_left(15).wrapping_mul(0x846c_a68b)
        };
        Array2::from_shape_fn((rows, cols), |(row, col)| {
            (mix((row * cols + col) as u32) >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        })
    }

    /// Rows whose dimension `d` is `d % 3 + 1` times as wide, and 100 times in dimension 4.
    fn gathered() -> (Array2<f32>, Variance) {
        let mut rows = random(400, 8, 1);
        for (d, mut column) in rows.columns_mut().into_iter().enumerate() {
            column *= if d == 4 { 100.0 } else { (d % 3 + 1) as f32 };
            column += d as f32;
        }
        let mut gathering = Gathering::new(8);
        gathering.picture(rows.slice(ndarray::s![..150, ..]));
        gathering.picture(rows.slice(ndarray::s![150.., ..]));
        (rows, gathering.finish())
    }

    #[test]
    fn variance_is_that_of_the_definition() {
        let (rows, variance) = gathered();
        for (d, got) in variance.spatial().into_iter().enumerate() {
            let column: Vec<f64> = rows.column(d).iter().map(|v| f64::from(*v)).collect();
            let mean = column.iter().sum::<f64>() / 400.0;
            let expected = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 400.0;
            assert!((got - expected).abs() < 1e-6 * expected, "{d}: {got} and {expected}");
        }
        assert_eq!(variance.temporal(), None);
        assert_eq!(variance.highest(1), [4]);
        assert_eq!(variance.highest(3), [2, 4, 5]);
        assert_eq!(variance.highest(0), [0usize; 0]);
    }

    #[test]
    fn standardised_dimensions_vary_alike() {
        let (rows, variance) = gathered();
        let mut out = vec![0.0; rows.len()];
        variance.standardising().apply(&mut rows.into_raw_vec_and_offset().0, &mut out);
        let mut after = Moments::new(8);
        after.add(ArrayView2::from_shape((400, 8), &out).unwrap());
        for (d, v) in after.covariance().diag().iter().enumerate() {
            assert!((v - 1.0).abs() < 1e-4, "{d}: {v}");
        }
        assert!(after.mean().iter().all(|mean| mean.abs() < 1e-4));
        // One that never varies stays out of it.
        let mut gathering = Gathering::new(2);
        gathering.picture(Array2::from_shape_fn((9, 2), |(row, d)| if d == 0 { row as f32 } else { 3.0 }).view());
        let mut out = [0.0; 2];
        gathering.finish().standardising().apply(&mut [1.0, 4.0], &mut out);
        assert_eq!(out[1], 0.0);
    }

    #[test]
    fn directions_that_vary_over_time_are_projected_out() {
        // An object's dimension 1 and 2 change together over time, far more than anything else.
        let mut gathering = Gathering::new(6);
        for object in 0..5 {
            let mut means = random(20, 6, 7 + object) * 0.1;
            let time = random(20, 1, 90 + object);
            for (mut row, time) in means.rows_mut().into_iter().zip(time.iter()) {
                row[1] += 10.0 * time;
                row[2] += 10.0 * time;
            }
            gathering.object(means.view());
        }
        gathering.object(random(1, 6, 3).view());
        gathering.picture(random(300, 6, 2).view());
        let variance = gathering.finish();
        let temporal = variance.temporal().unwrap();
        assert!(temporal[1] > 100.0 * temporal[0] && temporal[2] > 100.0 * temporal[5], "{temporal:?}");
        let transform = variance.projecting(1, 5);
        assert_eq!((transform.inputs(), transform.outputs()), (6, 5));
        let length = |row: [f32; 6]| {
            let (mut from, mut to) = ([0.0; 5], [0.0; 5]);
            transform.apply(&mut [0.0; 6], &mut from);
            transform.apply(&mut row.clone(), &mut to);
            from.iter().zip(to).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
        };
        assert!(length([0.0, 1.0, 1.0, 0.0, 0.0, 0.0]) < 0.01, "what varies over time is gone");
        assert!(
            (length([0.0, 1.0, -1.0, 0.0, 0.0, 0.0]) - 2f32.sqrt()).abs() < 0.01,
            "what is left is as long as it was"
        );
        assert!((length([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]) - 1.0).abs() < 0.01);
    }

    #[test]
    fn no_direction_is_removed_in_which_nothing_changes_over_time() {
        // One object in two pictures varies over time in one direction alone.
        let mut gathering = Gathering::new(5);
        gathering.object(ndarray::arr2(&[[0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 2.0]]).view());
        gathering.picture((random(3000, 5, 4) * &ndarray::arr1(&[8.0, 4.0, 2.0, 1.0, 1.0])).view());
        let variance = gathering.finish();
        let length = |d: usize| {
            let mut row = [0.0f32; 5];
            (0..5).for_each(|i| row[i] = variance.mean[i] as f32 + f32::from(u8::from(i == d)));
            let mut out = [0.0; 3];
            variance.projecting(2, 3).apply(&mut row, &mut out);
            out.iter().map(|v| v * v).sum::<f32>()
        };
        // Two could be removed, but only one is known to vary; of the rest those stay that vary most over patches.
        assert!(length(4) < 1e-3 && length(3) < 0.05, "{} and {}", length(4), length(3));
        assert!((0..3).all(|d| length(d) > 0.95), "{:?}", (0..3).map(length).collect::<Vec<_>>());
    }
}
