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
    /// The similarity that it should have: what is less like it is less likely to be it. See [`Evidence::wanted`].
    pub wanted: f32,
}

/// Weights of the score: constant, label mass, similarity, margin, |ln size ratio|, what falls short of the wanted similarity.
///
/// Their proportions were set by hand, so that each kind of evidence counts the way it should. `cargo run --release --example
/// calibrate` fits their level and scale, and tells how well that holds on what it was not fitted to; `docs/score.md` has it.
const WEIGHTS: [f32; 6] = [-1.4, 1.72, 0.645, 4.3, -0.344, -6.45];
/// The similarity that is wanted at most; and of what returns, for it may be dim, blurred, or show another side.
const ALIKE_ENOUGH: f32 = 0.8;
const ALIKE_AT_FIRST: f32 = 0.75;
/// How much less similar than usual an object may be and lose nothing by it.
const SLACK: f32 = 0.03;

impl Evidence {
    /// The similarity that an object should have which usually has `usual`; `None` for one that was not seen just before.
    pub fn wanted(usual: Option<f32>) -> f32 {
        usual.map_or(ALIKE_AT_FIRST, |usual| ALIKE_ENOUGH.min(usual - SLACK))
    }

    /// The IoU, in [0, 1], that the mask is expected to have with the object's true one. Nothing followed scores 0.
    pub fn score(&self) -> f32 {
        if self.label_mass <= 0.0 {
            return 0.0;
        }
        let score = 1.0 / (1.0 + (-self.logit()).exp());
        if score.is_finite() { score } else { 0.0 }
    }

    /// What the score is the logistic function of.
    pub fn logit(&self) -> f32 {
        let resized = self.size_ratio.max(0.01).ln().abs().min(3.0);
        let short = (self.wanted - self.similarity).max(0.0);
        let terms = [1.0, self.label_mass, self.similarity, self.margin, resized, short];
        terms.iter().zip(WEIGHTS).map(|(term, weight)| term * weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Evidence = Evidence { label_mass: 0.7, similarity: 0.75, margin: 0.05, size_ratio: 1.0, wanted: 0.7 };

    #[test]
    fn the_score_rises_with_each_kind_of_evidence() {
        let plain = PLAIN.score();
        assert!((0.3..0.9).contains(&plain), "{plain}");
        assert!(Evidence { label_mass: 0.9, ..PLAIN }.score() > plain);
        assert!(Evidence { margin: 0.2, ..PLAIN }.score() > plain);
        assert!(Evidence { margin: -0.2, ..PLAIN }.score() < plain);
        assert!(Evidence { similarity: 0.6, ..PLAIN }.score() < plain);
        assert!(Evidence { size_ratio: 0.2, ..PLAIN }.score() < plain);
        assert!(Evidence { size_ratio: 5.0, ..PLAIN }.score() < plain);
        assert!(Evidence { wanted: 0.8, ..PLAIN }.score() < plain, "it is usually more alike");
        assert_eq!(Evidence { label_mass: 0.0, ..PLAIN }.score(), 0.0);
    }

    #[test]
    fn whatever_the_evidence_the_score_stays_in_bounds() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -1.0] {
            let evidence = Evidence { label_mass: 1.0, similarity: bad, margin: bad, size_ratio: bad, wanted: 0.8 };
            assert!((0.0..=1.0).contains(&evidence.score()), "{bad}: {}", evidence.score());
        }
    }

    #[test]
    fn what_an_object_should_be_like_follows_what_it_usually_is() {
        assert!(Evidence::wanted(None) < ALIKE_ENOUGH);
        assert_eq!(Evidence::wanted(Some(0.95)), ALIKE_ENOUGH);
        assert!(Evidence::wanted(Some(0.7)) < 0.7);
    }
}
