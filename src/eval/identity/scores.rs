//! What is counted of identities, and the scores that are made of it.

use std::iter::Sum;
use std::ops::AddAssign;

use serde::Serialize;

use super::ALPHAS;

/// What the scores of one sequence, or of several, are made of. Counts are of detections: a truth, or a track, in one
/// frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct IdentityCounts {
    /// Detections of truths: matched or missed.
    pub truths: u64,
    /// Detections of tracks: matched or false.
    pub tracks: u64,
    /// By threshold: 0.05, 0.1 and so on.
    pub hota: [AlphaCounts; ALPHAS],
    /// True positives where each truth has one track in the whole sequence.
    pub idtp: u64,
    /// True positives of CLEAR.
    pub clear_tp: u64,
    pub switches: u64,
    pub fragmentations: u64,
}

/// What HOTA at one threshold is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct AlphaCounts {
    /// True positives.
    pub tp: u64,
    /// The sum of their similarities.
    pub similarity: f64,
    /// The sum, over the true positives, of TPA / (TPA + FNA + FPA): of all detections of the two identities, the
    /// fraction that is matched to one another.
    pub ass_a: f64,
    /// The same of TPA / (TPA + FNA): of the truth's.
    pub ass_re: f64,
    /// The same of TPA / (TPA + FPA): of the track's.
    pub ass_pr: f64,
}

impl IdentityCounts {
    pub fn scores(&self) -> IdentityScores {
        let mean = |score: fn(&IdentityCounts, &AlphaCounts) -> f64| {
            self.hota.iter().map(|at| score(self, at)).sum::<f64>() / ALPHAS as f64
        };
        let missed = self.truths - self.clear_tp;
        let wrong = (self.tracks - self.clear_tp) + missed + self.switches;
        IdentityScores {
            hota: mean(|all, at| (all.det_a(at) * over(at.ass_a, at.tp)).sqrt()),
            det_a: mean(IdentityCounts::det_a),
            det_re: mean(|all, at| ratio(at.tp, all.truths)),
            det_pr: mean(|all, at| ratio(at.tp, all.tracks)),
            ass_a: mean(|_, at| over(at.ass_a, at.tp)),
            ass_re: mean(|_, at| over(at.ass_re, at.tp)),
            ass_pr: mean(|_, at| over(at.ass_pr, at.tp)),
            loc_a: mean(|_, at| if at.tp == 0 { 1.0 } else { over(at.similarity, at.tp) }),
            idf1: ratio(2 * self.idtp, self.truths + self.tracks),
            idp: ratio(self.idtp, self.tracks),
            idr: ratio(self.idtp, self.truths),
            mota: if self.truths == 0 { 0.0 } else { 1.0 - ratio(wrong, self.truths) },
            switches: self.switches,
            fragmentations: self.fragmentations,
        }
    }

    fn det_a(&self, at: &AlphaCounts) -> f64 {
        ratio(at.tp, self.truths + self.tracks - at.tp)
    }
}

impl AddAssign<&IdentityCounts> for IdentityCounts {
    fn add_assign(&mut self, other: &IdentityCounts) {
        self.truths += other.truths;
        self.tracks += other.tracks;
        for (sum, at) in self.hota.iter_mut().zip(&other.hota) {
            sum.tp += at.tp;
            sum.similarity += at.similarity;
            sum.ass_a += at.ass_a;
            sum.ass_re += at.ass_re;
            sum.ass_pr += at.ass_pr;
        }
        self.idtp += other.idtp;
        self.clear_tp += other.clear_tp;
        self.switches += other.switches;
        self.fragmentations += other.fragmentations;
    }
}

impl<'a> Sum<&'a IdentityCounts> for IdentityCounts {
    fn sum<I: Iterator<Item = &'a IdentityCounts>>(sequences: I) -> IdentityCounts {
        sequences.fold(IdentityCounts::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

/// Fractions are in [0, 1], 1 the best, and 0 of nothing, unless said otherwise. Those of HOTA (Luiten et al. 2021)
/// are means over the thresholds of similarity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct IdentityScores {
    /// The mean of sqrt(DetA * AssA).
    pub hota: f64,
    /// Detection accuracy: TP / (TP + FN + FP).
    pub det_a: f64,
    /// Detection recall: TP / (TP + FN).
    pub det_re: f64,
    /// Detection precision: TP / (TP + FP).
    pub det_pr: f64,
    /// Association accuracy: the mean over true positives of TPA / (TPA + FNA + FPA).
    pub ass_a: f64,
    /// Association recall: the mean over true positives of TPA / (TPA + FNA).
    pub ass_re: f64,
    /// Association precision: the mean over true positives of TPA / (TPA + FPA).
    pub ass_pr: f64,
    /// Localisation accuracy: the mean similarity of true positives; 1 where there are none.
    pub loc_a: f64,
    /// IDTP / (IDTP + IDFN / 2 + IDFP / 2) at a similarity of 0.5 (Ristani et al. 2016).
    pub idf1: f64,
    /// IDTP / (IDTP + IDFP)
    pub idp: f64,
    /// IDTP / (IDTP + IDFN)
    pub idr: f64,
    /// 1 - (FN + FP + switches) / truths, at a similarity of 0.5 (Bernardin and Stiefelhagen 2008): below 0 where
    /// more is wrong than there is to be right, and 0 without truths.
    pub mota: f64,
    /// How often a truth is matched to another track than the last that it was matched to.
    pub switches: u64,
    /// How often a truth is matched again after it was not.
    pub fragmentations: u64,
}

/// 0 of nothing.
pub fn ratio(part: u64, whole: u64) -> f64 {
    over(part as f64, whole)
}

/// 0 of nothing.
fn over(sum: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}
