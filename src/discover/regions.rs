//! A tree of regions: neighbours that are most alike are joined, until the frame is one.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap};

use super::centred::Centred;

/// Every region that came about, each as a run of `order`.
pub(super) struct Regions {
    /// (rows * cols): the patches, so that those of each region lie side by side.
    order: Vec<u32>,
    /// First and one past the last place in `order` of each region, in the order in which they came about.
    spans: Vec<(usize, usize)>,
}

impl Regions {
    /// The patches of each region of two or more, small regions before those that hold them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.spans.iter().map(|(start, end)| &self.order[*start..*end])
    }
}

/// Two regions that could be joined, at the cost that it had when this was written down.
struct Pair {
    cost: f64,
    slots: [u32; 2],
    /// How often each had been joined to something then.
    ages: [u32; 2],
}

impl Pair {
    fn key(&self) -> (f64, [u32; 2]) {
        (self.cost, self.slots)
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        let ((a, x), (b, y)) = (self.key(), other.key());
        a.total_cmp(&b).then(x.cmp(&y)).then(self.ages.cmp(&other.ages))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

/// What the squared distances to the mean grow by when two regions of `count` patches and these means are joined (Ward,
/// 1963).
fn cost(a: &[f64], b: &[f64], count: [usize; 2]) -> f64 {
    let (n, m) = (count[0] as f64, count[1] as f64);
    // Eight sums side by side, so that a vector's lanes need not wait for one another.
    let mut lanes = [0f64; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (x, y) in a.iter().zip(b) {
        for lane in 0..8 {
            lanes[lane] += (x[lane] - y[lane]).powi(2);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| (x - y).powi(2)).sum();
    n * m / (n + m) * (lanes.iter().sum::<f64>() + rest)
}

/// Joins, again and again, the two regions that touch along a side of a patch and cost least; of equal costs, the first
/// by their first patches. A region goes by the lowest of its patches' indices that it took over on the way.
///
/// Touching regions number 2N at most, as the grid's sides do at the start: joining never adds to them. So for N
/// patches it holds O(N * dim) numbers, and the frame's costs, each of `dim` products, are some 10 N in practice.
pub(super) fn regions(features: &Centred) -> Regions {
    let (rows, cols, dim) = (features.grid.rows, features.grid.cols, features.dim);
    let count = rows * cols;
    // (count, dim): the mean of each region's rows
    let mut means: Vec<f64> = (0..count).flat_map(|patch| features.row(patch).iter().map(|v| f64::from(*v))).collect();
    let mut sizes = vec![1usize; count];
    // How often each slot was joined to another; a slot that is no more has the largest age.
    let mut ages = vec![0u32; count];
    let mut neighbours = vec![BTreeSet::<u32>::new(); count];
    for patch in 0..count {
        let right = (patch % cols + 1 < cols).then_some(patch + 1);
        let below = (patch + cols < count).then_some(patch + cols);
        for other in [right, below].into_iter().flatten() {
            neighbours[patch].insert(other as u32);
            neighbours[other].insert(patch as u32);
        }
    }
    let price = |means: &[f64], sizes: &[usize], a: usize, b: usize| {
        cost(&means[a * dim..(a + 1) * dim], &means[b * dim..(b + 1) * dim], [sizes[a], sizes[b]])
    };
    let mut heap = BinaryHeap::new();
    for (a, touching) in neighbours.iter().enumerate() {
        for b in touching.range(a as u32 + 1..) {
            let cost = price(&means, &sizes, a, *b as usize);
            heap.push(Reverse(Pair { cost, slots: [a as u32, *b], ages: [0, 0] }));
        }
    }
    // What each join joined: nodes, of which the first `count` are the patches.
    let mut joins: Vec<[usize; 2]> = Vec::with_capacity(count.saturating_sub(1));
    let mut node: Vec<usize> = (0..count).collect();
    while let Some(Reverse(pair)) = heap.pop() {
        let [a, b] = pair.slots.map(|slot| slot as usize);
        if [ages[a], ages[b]] != pair.ages {
            continue;
        }
        let (first, second) = means.split_at_mut(b * dim);
        let part = sizes[b] as f64 / (sizes[a] + sizes[b]) as f64;
        first[a * dim..(a + 1) * dim].iter_mut().zip(&second[..dim]).for_each(|(x, y)| *x += (y - *x) * part);
        sizes[a] += sizes[b];
        ages[a] += 1;
        ages[b] = u32::MAX;
        joins.push([node[a], node[b]]);
        node[a] = count + joins.len() - 1;
        for k in std::mem::take(&mut neighbours[b]) {
            neighbours[k as usize].remove(&(b as u32));
            if k as usize != a {
                neighbours[k as usize].insert(a as u32);
                neighbours[a].insert(k);
            }
        }
        for k in &neighbours[a] {
            let k = *k as usize;
            let slots = [a.min(k), a.max(k)];
            let cost = price(&means, &sizes, slots[0], slots[1]);
            heap.push(Reverse(Pair { cost, slots: slots.map(|s| s as u32), ages: slots.map(|s| ages[s]) }));
        }
        // Costs that no longer hold are dropped before they outnumber those that do by much.
        if heap.len() > 8 * count {
            heap.retain(|Reverse(pair)| pair.slots.map(|slot| ages[slot as usize]) == pair.ages);
        }
    }
    laid_out(count, &joins)
}

/// Puts the patches in an order in which those of each join lie side by side.
fn laid_out(count: usize, joins: &[[usize; 2]]) -> Regions {
    let mut sizes = vec![1usize; count];
    for [a, b] in joins {
        sizes.push(sizes[*a] + sizes[*b]);
    }
    let mut starts = vec![0usize; sizes.len()];
    // A join comes after what it joined, so from the last on every one knows where it begins.
    for (at, [a, b]) in joins.iter().enumerate().rev() {
        starts[*a] = starts[count + at];
        starts[*b] = starts[count + at] + sizes[*a];
    }
    let mut order = vec![0u32; count];
    (0..count).for_each(|patch| order[starts[patch]] = patch as u32);
    Regions { order, spans: (count..sizes.len()).map(|node| (starts[node], starts[node] + sizes[node])).collect() }
}

#[cfg(test)]
#[path = "regions_tests.rs"]
mod tests;
