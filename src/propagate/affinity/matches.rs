//! The best matches of each query, kept in order.

/// A patch of a memory frame, as similar to a query as `cosine` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    pub cosine: f32,
    /// Which of the frames that were searched.
    pub frame: u32,
    /// Which patch of it.
    pub patch: u32,
}

impl Match {
    /// Less similar than anything.
    pub const NONE: Match = Match { cosine: f32::NEG_INFINITY, frame: u32::MAX, patch: u32::MAX };

    /// More similar; of equals, the one of the lower frame, and then of the lower patch. So it does not matter in
    /// which order matches are found.
    fn beats(&self, other: &Match) -> bool {
        self.cosine > other.cosine
            || self.cosine == other.cosine && (self.frame, self.patch) < (other.frame, other.patch)
    }
}

/// The best matches of every query, best first; unfilled places hold [`Match::NONE`].
#[derive(Clone, Debug, Default)]
pub struct Matches {
    pub k: usize,
    /// (queries, k)
    pub data: Vec<Match>,
}

impl Matches {
    pub fn reset(&mut self, queries: usize, k: usize) {
        self.k = k;
        self.data.clear();
        self.data.resize(queries * k, Match::NONE);
    }

    /// Takes over the matches of `others`, into the memory of the old ones.
    pub fn copy_from(&mut self, others: &Matches) {
        self.k = others.k;
        self.data.clone_from(&others.data);
    }

    pub fn of(&self, query: usize) -> &[Match] {
        &self.data[query * self.k..(query + 1) * self.k]
    }

    /// The matches of a query without the places that are unfilled.
    pub fn found(&self, query: usize) -> impl Iterator<Item = &Match> {
        self.of(query).iter().take_while(|m| m.frame != u32::MAX)
    }

    /// What a match must at least be to be kept.
    pub fn threshold(&self, query: usize) -> f32 {
        self.of(query).last().map_or(f32::INFINITY, |last| last.cosine)
    }

    /// Keeps `candidate` if it beats the query's k-th best.
    pub fn offer(&mut self, query: usize, candidate: Match) {
        let best = &mut self.data[query * self.k..(query + 1) * self.k];
        let Some(last) = best.last() else { return };
        if candidate.beats(last) {
            let mut at = best.len() - 1;
            while at > 0 && candidate.beats(&best[at - 1]) {
                best[at] = best[at - 1];
                at -= 1;
            }
            best[at] = candidate;
        }
    }
}
