//! Nearest neighbours among patches anywhere, by cosine, without the window of propagation.

use ndarray::{Array2, ArrayView2};

/// Queries that are compared with all keys at once.
const TILE: usize = 128;

/// For each query, the `k` keys that are most similar and may be its neighbours, the most similar first; of equals the
/// first. `queries` and `keys` are (patches, dimensions) with L2-normalised rows. Fewer where fewer may be.
pub fn nearest(
    queries: ArrayView2<'_, f32>,
    keys: ArrayView2<'_, f32>,
    k: usize,
    may: impl Fn(usize, usize) -> bool,
) -> Vec<Vec<usize>> {
    let mut neighbours = Vec::with_capacity(queries.nrows());
    each_similarity(queries, keys, |query, similarities| {
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(k + 1);
        for (key, similarity) in similarities.iter().enumerate() {
            if best.len() == k && *similarity <= best[k - 1].0 || !may(query, key) {
                continue;
            }
            let at = best.partition_point(|(better, _)| better >= similarity);
            best.insert(at, (*similarity, key));
            best.truncate(k);
        }
        neighbours.push(best.into_iter().map(|(_, key)| key).collect());
    });
    neighbours
}

/// Gives each query's cosines to all keys, query by query.
pub fn each_similarity(queries: ArrayView2<'_, f32>, keys: ArrayView2<'_, f32>, mut take: impl FnMut(usize, &[f32])) {
    if keys.nrows() == 0 {
        (0..queries.nrows()).for_each(|query| take(query, &[]));
        return;
    }
    let mut products = Array2::zeros((TILE, keys.nrows()));
    for first in (0..queries.nrows()).step_by(TILE) {
        let tile = queries.slice(ndarray::s![first..(first + TILE).min(queries.nrows()), ..]);
        let mut products = products.slice_mut(ndarray::s![..tile.nrows(), ..]);
        ndarray::linalg::general_mat_mul(1.0, &tile, &keys.t(), 0.0, &mut products);
        for (row, similarities) in products.rows().into_iter().enumerate() {
            take(first + row, similarities.as_slice().expect("rows in one piece"));
        }
    }
}

/// The class that most of the neighbours have; of equals that of the nearest. `None` where there are none.
pub fn vote<C: Copy + PartialEq>(neighbours: &[C]) -> Option<C> {
    let votes = |class: &C| neighbours.iter().filter(|other| *other == class).count();
    neighbours.iter().rev().max_by_key(|class| votes(class)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn neighbours_are_those_of_a_full_sort(
            queries in 0usize..300, keys in 0usize..70, dim in 1usize..9, k in 1usize..6, seed: u32,
        ) {
            // Small whole numbers: products are exact, and many are equal.
            let value = |i: usize| ((i as u32).wrapping_mul(0x9e37_79b9) ^ seed).wrapping_mul(0x85eb_ca6b) >> 30;
            let rows = |count: usize, from: usize| {
                Array2::from_shape_fn((count, dim), |(row, d)| value(from + row * dim + d) as f32 - 1.0)
            };
            let (queries, keys) = (rows(queries, 0), rows(keys, 1 << 20));
            let may = |query: usize, key: usize| !(query + key).is_multiple_of(3);
            let got = nearest(queries.view(), keys.view(), k, may);
            prop_assert_eq!(got.len(), queries.nrows());
            for (query, got) in got.into_iter().enumerate() {
                let similarity = |key: usize| queries.row(query).dot(&keys.row(key));
                let mut order: Vec<usize> = (0..keys.nrows()).filter(|key| may(query, *key)).collect();
                order.sort_by(|a, b| similarity(*b).total_cmp(&similarity(*a)).then(a.cmp(b)));
                order.truncate(k);
                prop_assert_eq!(got, order);
            }
        }
    }

    #[test]
    fn most_votes_win_and_of_equals_the_nearest() {
        assert_eq!(vote(&[3, 1, 1]), Some(1));
        assert_eq!(vote(&[2, 1, 1, 2]), Some(2));
        assert_eq!(vote(&[4, 2, 9]), Some(4));
        assert_eq!(vote::<u8>(&[]), None);
    }
}
