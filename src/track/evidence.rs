//! How far what was followed is still the object: the numbers behind a track's score.

/// What speaks for an object's labels in one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    /// How undivided its patches are, in [0, 1]: their labels' mean, weighted by the labels themselves.
    pub label_mass: f32,
    /// Mean over its patches of the cosine to the most similar of the object's exemplars.
    pub similarity: f32,
    /// How much higher that is than the cosine to the most similar exemplar of what is not the object.
    pub margin: f32,
    /// Its patches, over the patches that it had in its reference frame.
    pub size_ratio: f32,
}

/// Weights of the logistic score: constant, label mass, similarity, margin, |ln size ratio|.
///
/// Set by hand so that each kind of evidence counts the way it should; `cargo run --release --example calibrate`
/// holds them against the synthetic scene, where a mask counts as right when its IoU with the exact one is at
/// least 0.5. `docs/score.md` tells how well they hold.
pub const SCORE_WEIGHTS: [f32; 5] = [-4.0, 4.0, 1.5, 10.0, -0.8];

impl Evidence {
    /// The values that the weights are for.
    pub fn terms(&self) -> [f32; 5] {
        [1.0, self.label_mass, self.similarity, self.margin, self.size_ratio.max(0.01).ln().abs().min(3.0)]
    }

    /// How likely it is, in [0, 1], that the object's box and mask are right. Nothing followed scores 0.
    pub fn score(&self) -> f32 {
        if self.label_mass <= 0.0 {
            return 0.0;
        }
        let logit: f32 = self.terms().iter().zip(SCORE_WEIGHTS).map(|(x, w)| x * w).sum();
        let score = 1.0 / (1.0 + (-logit).exp());
        if score.is_finite() { score } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_rises_with_each_kind_of_evidence_and_stays_in_bounds() {
        let plain = Evidence { label_mass: 0.7, similarity: 0.7, margin: 0.05, size_ratio: 1.0 };
        let score = plain.score();
        assert!(Evidence { label_mass: 0.9, ..plain }.score() > score);
        assert!(Evidence { margin: 0.2, ..plain }.score() > score);
        assert!(Evidence { margin: -0.2, ..plain }.score() < score);
        assert_eq!(Evidence { label_mass: 0.0, ..plain }.score(), 0.0);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -1.0] {
            let score = Evidence { label_mass: 1.0, similarity: bad, margin: bad, size_ratio: bad }.score();
            assert!((0.0..=1.0).contains(&score), "{bad}: {score}");
        }
    }
}
