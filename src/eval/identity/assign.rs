//! Who is whom: one column for each row, so that it is worth most in all.

use pathfinding::prelude::{Matrix, kuhn_munkres};

/// The rows and columns of the assignment whose weights sum up to the most: as many as there are of the fewer.
pub fn assign(rows: usize, cols: usize, weight: impl Fn(usize, usize) -> i64) -> Vec<(usize, usize)> {
    if rows == 0 || cols == 0 {
        return Vec::new();
    }
    // The crate wants the fewer to be the rows.
    if rows <= cols {
        let weights = Matrix::from_fn(rows, cols, |(row, col)| weight(row, col));
        kuhn_munkres(&weights).1.into_iter().enumerate().collect()
    } else {
        let weights = Matrix::from_fn(cols, rows, |(col, row)| weight(row, col));
        kuhn_munkres(&weights).1.into_iter().enumerate().map(|(col, row)| (row, col)).collect()
    }
}

/// A weight in whole numbers, whose sums and differences are exact: the search goes by those that are zero. Worths
/// are 1001 at most, so that thousands of them may be added.
pub fn fixed(worth: f64) -> i64 {
    const ONE: f64 = (1u64 << 40) as f64;
    (worth * ONE).round() as i64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    /// The most that rows from `row` on can get of columns that are free.
    fn most(row: usize, free: &[usize], weights: &[Vec<i64>]) -> i64 {
        let Some(of_row) = weights.get(row) else { return 0 };
        // A row may go without where columns are fewer.
        let without = (weights.len() - row > free.len()).then(|| most(row + 1, free, weights));
        let with = free.iter().map(|col| {
            let rest: Vec<usize> = free.iter().copied().filter(|other| other != col).collect();
            of_row[*col] + most(row + 1, &rest, weights)
        });
        with.chain(without).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn no_assignment_is_worth_more(
            rows in 0usize..6, cols in 0usize..6, worths in prop::collection::vec(0.0..1001f64, 36),
        ) {
            let weights: Vec<Vec<i64>> =
                (0..rows).map(|row| (0..cols).map(|col| fixed(worths[row * 6 + col])).collect()).collect();
            let assigned = assign(rows, cols, |row, col| weights[row][col]);
            prop_assert_eq!(assigned.len(), rows.min(cols));
            let (of_rows, of_cols): (BTreeSet<usize>, BTreeSet<usize>) = assigned.iter().copied().unzip();
            prop_assert_eq!((of_rows.len(), of_cols.len()), (assigned.len(), assigned.len()), "{:?}", assigned);
            let worth: i64 = assigned.iter().map(|(row, col)| weights[*row][*col]).sum();
            prop_assert_eq!(worth, most(0, &(0..cols).collect::<Vec<_>>(), &weights));
        }
    }

    #[test]
    fn worths_of_thousands_are_added_without_overflow() {
        let assigned = assign(2000, 2000, |row, col| if row == col { fixed(1001.0) } else { 0 });
        assert!(assigned.into_iter().all(|(row, col)| row == col));
    }
}
