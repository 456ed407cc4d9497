//! What is done with features before they are compared.

use std::fmt;

use ndarray::{Array2, ArrayView2, Axis};

use crate::embed::Transform;
use crate::model::variance::Variance;

/// A way to treat features; see [`crate::model::variance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    AsTheyAre,
    /// With their mean taken out: what those below do beside their own.
    Centre,
    /// Without so many dimensions, those that vary most over patches.
    Drop(usize),
    /// Each dimension centred and scaled to the same variance: the control to compare dropping with.
    Standardise,
    /// Centred; without the `removed` directions that vary most over time of one object, the `kept` in which patches
    /// vary most.
    Project {
        kept: usize,
        removed: usize,
    },
}

/// A treatment that knows of its features.
#[derive(Clone, Debug)]
pub enum Fitted {
    /// These dimensions, in rising order.
    Keep(Vec<usize>),
    Change(Transform),
}

impl Treatment {
    /// Whether features of `dim` dimensions can be treated so.
    pub fn fits(self, dim: usize) -> bool {
        match self {
            Treatment::AsTheyAre | Treatment::Centre | Treatment::Standardise => true,
            Treatment::Drop(count) => count < dim,
            Treatment::Project { kept, removed } => kept >= 1 && kept.saturating_add(removed) <= dim,
        }
    }

    /// # Panics
    /// When it does not fit.
    pub fn fit(self, variance: &Variance) -> Fitted {
        let dim = variance.dim();
        assert!(self.fits(dim), "dimensions that there are");
        match self {
            Treatment::AsTheyAre => Fitted::Keep((0..dim).collect()),
            Treatment::Drop(count) => {
                let highest = variance.highest(count);
                Fitted::Keep((0..dim).filter(|d| highest.binary_search(d).is_err()).collect())
            }
            Treatment::Centre => Fitted::Change(variance.centring()),
            Treatment::Standardise => Fitted::Change(variance.standardising()),
            Treatment::Project { kept, removed } => Fitted::Change(variance.projecting(removed, kept)),
        }
    }
}

impl Fitted {
    /// Treats rows, (patches, dimensions as they are): (patches, dimensions left), row-major.
    pub fn apply(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        match self {
            // A selection of columns lies in memory column by column.
            Fitted::Keep(kept) => rows.select(Axis(1), kept).as_standard_layout().into_owned(),
            Fitted::Change(transform) => {
                let mut from: Vec<f32> = rows.iter().copied().collect();
                let mut to = Array2::zeros((rows.nrows(), transform.outputs()));
                transform.apply(&mut from, to.as_slice_mut().expect("in one piece"));
                to
            }
        }
    }
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Treatment::AsTheyAre => f.write_str("as they are"),
            Treatment::Centre => f.write_str("centred"),
            Treatment::Drop(count) => write!(f, "drop {count}"),
            Treatment::Standardise => f.write_str("standardised"),
            Treatment::Project { kept, removed } => write!(f, "project {kept}, remove {removed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::variance::Gathering;

    /// Dimension `d` of row `r`: dimension 1 varies most, dimension 3 next.
    fn rows() -> Array2<f32> {
        Array2::from_shape_fn((40, 4), |(r, d)| ((r * 7 + d * 3) % 11) as f32 * [1.0, 50.0, 2.0, 10.0][d])
    }

    fn treated(treatment: Treatment) -> Array2<f32> {
        let mut gathering = Gathering::new(4);
        gathering.picture(rows().view());
        let treated = treatment.fit(&gathering.finish()).apply(rows().view());
        assert!(treated.is_standard_layout(), "{treatment}");
        treated
    }

    #[test]
    fn rows_keep_their_order_whatever_is_done_to_them() {
        assert_eq!(treated(Treatment::AsTheyAre), rows());
        let dropped = treated(Treatment::Drop(2));
        assert_eq!(
            dropped.into_raw_vec_and_offset().0,
            rows().select(Axis(1), &[0, 2]).iter().copied().collect::<Vec<_>>()
        );
        let distance = |rows: &Array2<f32>| (&rows.row(3) - &rows.row(20)).mapv(|v| v * v).sum().sqrt();
        let centred = treated(Treatment::Centre);
        assert!((distance(&centred) - distance(&rows())).abs() < 1e-3);
        assert!(centred.mean_axis(Axis(0)).unwrap().iter().all(|mean| mean.abs() < 1e-3));
        let standardised = treated(Treatment::Standardise);
        for d in 0..4 {
            let column = standardised.column(d);
            let (mean, square) = (column.mean().unwrap(), column.dot(&column) / 40.0);
            assert!(mean.abs() < 1e-4 && (square - 1.0).abs() < 1e-3, "{d}: {mean}, {square}");
        }
        // What is kept of a projection are the directions that vary most, and distances in them.
        let projected = treated(Treatment::Project { kept: 4, removed: 0 });
        assert!((distance(&projected) - distance(&rows())).abs() < 0.01 * distance(&rows()));
    }

    #[test]
    fn what_does_not_fit_is_known_beforehand() {
        assert!(Treatment::Drop(3).fits(4) && !Treatment::Drop(4).fits(4));
        assert!(
            Treatment::Project { kept: 2, removed: 2 }.fits(4) && !Treatment::Project { kept: 3, removed: 2 }.fits(4)
        );
        assert!(!Treatment::Project { kept: 0, removed: 0 }.fits(4));
    }
}
