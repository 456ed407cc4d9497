//! How well identities are kept: HOTA, IDF1, and what CLEAR counts.
//!
//! [`Identities`] takes a sequence frame by frame: which truths and which tracks are in it, and how alike each pair
//! is. What it counts may be added to that of other sequences before it is scored.
//!
//! Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021; Ristani et al.,
//! "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", ECCV Workshops 2016; Bernardin and
//! Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", EURASIP JIVP 2008. Where
//! they leave a choice, it is that of TrackEval, the code of the first paper's authors. Which of several equally good
//! assignments is taken is not said there, nor here.

mod assign;
mod scores;

use std::collections::BTreeMap;

use thiserror::Error;

use assign::{assign, fixed};
use scores::ratio;
pub use scores::{AlphaCounts, IdentityCounts, IdentityScores};

/// How many thresholds of similarity HOTA is the mean over: 0.05, 0.1 and so on up to 0.95.
pub const ALPHAS: usize = 19;
/// The threshold of the identity measures and of CLEAR.
const THRESHOLD: f64 = 0.5;
/// What a pair may lack to the thresholds of HOTA and CLEAR, so that 0.3 meets 6 times 0.05.
const SLACK: f64 = f64::EPSILON;
/// What it is worth to CLEAR that a truth stays with its track: more than any similarities can make up for.
const STAYS: f64 = 1000.0;

#[derive(Clone, Debug, Error, PartialEq)]
pub enum FrameError {
    #[error("{similarities} similarities of {truths} truths with {tracks} tracks: there must be one for each pair")]
    Pairs { truths: usize, tracks: usize, similarities: usize },
    #[error("{kind} {id} is in the frame more than once")]
    Repeated { kind: &'static str, id: u64 },
    #[error("the similarity of truth {truth} with track {track} is {similarity}: it must lie in [0, 1]")]
    Similarity { truth: u64, track: u64, similarity: f64 },
}

/// The frames of one sequence.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    frames: Vec<Frame>,
    truths: Roll,
    tracks: Roll,
}

impl Identities {
    /// Takes the next frame: the ids of the truths and of the tracks in it, and their similarities, (truths, tracks),
    /// in [0, 1]: the overlap of two masks, say. A frame that is refused leaves no trace.
    pub fn frame(&mut self, truths: &[u64], tracks: &[u64], similarity: &[f64]) -> Result<(), FrameError> {
        if similarity.len() != truths.len() * tracks.len() {
            let (truths, tracks, similarities) = (truths.len(), tracks.len(), similarity.len());
            return Err(FrameError::Pairs { truths, tracks, similarities });
        }
        for (kind, ids) in [("truth", truths), ("track", tracks)] {
            if let Some(id) = repeated(ids) {
                return Err(FrameError::Repeated { kind, id });
            }
        }
        if let Some(pair) = similarity.iter().position(|s| !(0.0..=1.0).contains(s)) {
            let (truth, track) = (truths[pair / tracks.len()], tracks[pair % tracks.len()]);
            return Err(FrameError::Similarity { truth, track, similarity: similarity[pair] });
        }
        let (truths, tracks) = (self.truths.call(truths), self.tracks.call(tracks));
        self.frames.push(Frame { truths, tracks, similarity: similarity.to_vec() });
        Ok(())
    }

    /// The scores of this sequence alone.
    pub fn scores(&self) -> IdentityScores {
        self.counts().scores()
    }

    /// What the scores are made of. TrackEval combines sequences by adding these up, so that each weighs as much as
    /// there is in it.
    pub fn counts(&self) -> IdentityCounts {
        let clear = self.clear();
        IdentityCounts {
            truths: self.truths.present.iter().sum(),
            tracks: self.tracks.present.iter().sum(),
            hota: self.hota(),
            idtp: self.idtp(),
            clear_tp: clear.tp,
            switches: clear.switches,
            fragmentations: clear.fragmentations,
        }
    }

    fn hota(&self) -> [AlphaCounts; ALPHAS] {
        let mut matches: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
        let alignment = self.alignment();
        for frame in &self.frames {
            let worth = |truth, track, similarity: f64| alignment[truth * self.tracks.len() + track] * similarity;
            for (truth, track, similarity) in frame.matches(worth) {
                matches.entry((truth, track)).or_default().push(similarity);
            }
        }
        std::array::from_fn(|i| {
            let alpha = 0.05 + 0.05 * i as f64;
            let mut counts = AlphaCounts::default();
            for ((truth, track), similarities) in &matches {
                let met = || similarities.iter().filter(|s| **s >= alpha - SLACK);
                let tpa = met().count() as u64;
                let (of_truth, of_track) = (self.truths.present[*truth], self.tracks.present[*track]);
                counts.tp += tpa;
                counts.similarity += met().sum::<f64>();
                // Each of the pair's matches counts with the fraction that all of them are.
                counts.ass_a += tpa as f64 * ratio(tpa, of_truth + of_track - tpa);
                counts.ass_re += tpa as f64 * ratio(tpa, of_truth);
                counts.ass_pr += tpa as f64 * ratio(tpa, of_track);
            }
            counts
        })
    }

    /// How well each truth and each track go together over the whole sequence, (truths, tracks): the Jaccard index of
    /// their detections, where a pair in a frame is worth its part of all similarity that the two have there.
    fn alignment(&self) -> Vec<f64> {
        let mut shared = vec![0.0; self.truths.len() * self.tracks.len()];
        for frame in &self.frames {
            let (mut of_truths, mut of_tracks) = (vec![0.0; frame.truths.len()], vec![0.0; frame.tracks.len()]);
            for (row, col, similarity) in frame.pairs() {
                of_truths[row] += similarity;
                of_tracks[col] += similarity;
            }
            for (row, col, similarity) in frame.pairs() {
                let all = of_truths[row] + of_tracks[col] - similarity;
                if all > SLACK {
                    shared[frame.truths[row] * self.tracks.len() + frame.tracks[col]] += similarity / all;
                }
            }
        }
        for (pair, shared) in shared.iter_mut().enumerate() {
            let (truth, track) = (pair / self.tracks.len(), pair % self.tracks.len());
            let both = self.truths.present[truth] + self.tracks.present[track];
            *shared /= both as f64 - *shared;
        }
        shared
    }

    /// The detections that are matched when each truth is given one track for the whole sequence, the best way.
    fn idtp(&self) -> u64 {
        let mut together = vec![0i64; self.truths.len() * self.tracks.len()];
        for frame in &self.frames {
            for (row, col, _) in frame.pairs().filter(|(.., similarity)| *similarity >= THRESHOLD) {
                together[frame.truths[row] * self.tracks.len() + frame.tracks[col]] += 1;
            }
        }
        let together = |truth, track| together[truth * self.tracks.len() + track];
        let given = assign(self.truths.len(), self.tracks.len(), together);
        given.into_iter().map(|(truth, track)| together(truth, track) as u64).sum()
    }

    fn clear(&self) -> Clear {
        let mut clear = Clear::default();
        // For each truth, the track that it was last matched to, and the one in the frame before.
        let mut last = vec![None; self.truths.len()];
        let mut before = vec![None; self.truths.len()];
        let mut starts = vec![0u64; self.truths.len()];
        for frame in &self.frames {
            // What was before is what was before such a frame, too: TrackEval passes over it.
            if frame.truths.is_empty() || frame.tracks.is_empty() {
                continue;
            }
            let alike = |similarity: f64| similarity >= THRESHOLD - SLACK;
            let stays = |truth: usize, track| if before[truth] == Some(track) { STAYS } else { 0.0 };
            let worth = |truth, track, s| if alike(s) { stays(truth, track) + s } else { 0.0 };
            let matches = frame.matches(worth).into_iter().filter(|(.., similarity)| alike(*similarity));
            let mut now = vec![None; self.truths.len()];
            for (truth, track, _) in matches {
                clear.tp += 1;
                clear.switches += u64::from(last[truth].is_some_and(|last| last != track));
                starts[truth] += u64::from(before[truth].is_none());
                (last[truth], now[truth]) = (Some(track), Some(track));
            }
            before = now;
        }
        clear.fragmentations = starts.iter().map(|starts| starts.saturating_sub(1)).sum();
        clear
    }
}

/// The identities of a sequence, numbered as they come.
#[derive(Clone, Debug, Default)]
struct Roll {
    numbers: BTreeMap<u64, usize>,
    /// (identities), how many frames each is in
    present: Vec<u64>,
}

impl Roll {
    fn len(&self) -> usize {
        self.present.len()
    }

    /// The numbers of a frame's identities.
    fn call(&mut self, ids: &[u64]) -> Vec<usize> {
        let number = |id: &u64| {
            let number = *self.numbers.entry(*id).or_insert(self.present.len());
            if number == self.present.len() {
                self.present.push(0);
            }
            self.present[number] += 1;
            number
        };
        ids.iter().map(number).collect()
    }
}

#[derive(Clone, Debug)]
struct Frame {
    /// Numbers of the roll.
    truths: Vec<usize>,
    tracks: Vec<usize>,
    /// (truths, tracks)
    similarity: Vec<f64>,
}

impl Frame {
    /// Row, column and similarity of each pair.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        let cols = self.tracks.len();
        self.similarity.iter().enumerate().map(move |(pair, similarity)| (pair / cols, pair % cols, *similarity))
    }

    /// Truth, track and similarity of the pairs whose worth is most in all.
    fn matches(&self, worth: impl Fn(usize, usize, f64) -> f64) -> Vec<(usize, usize, f64)> {
        let at = |row, col| (self.truths[row], self.tracks[col], self.similarity[row * self.tracks.len() + col]);
        let weight = |row, col| {
            let (truth, track, similarity) = at(row, col);
            fixed(worth(truth, track, similarity))
        };
        assign(self.truths.len(), self.tracks.len(), weight).into_iter().map(|(row, col)| at(row, col)).collect()
    }
}

#[derive(Default)]
struct Clear {
    tp: u64,
    switches: u64,
    fragmentations: u64,
}

fn repeated(ids: &[u64]) -> Option<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.windows(2).find(|two| two[0] == two[1]).map(|two| two[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One truth in each of so many frames, and the track that it has there, if any, all with one similarity.
    fn followed(tracks: &[(Option<u64>, usize)], similarity: f64) -> Identities {
        let mut identities = Identities::default();
        for track in tracks.iter().flat_map(|(track, frames)| std::iter::repeat_n(track, *frames)) {
            let tracks: Vec<u64> = track.iter().copied().collect();
            identities.frame(&[7], &tracks, &vec![similarity; tracks.len()]).unwrap();
        }
        identities
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn detection_weighs_as_much_as_association() {
        // One truth of 100 frames: half of it in one piece, seven tenths in two pieces, or all in four.
        let half = followed(&[(Some(1), 50), (None, 50)], 1.0).scores();
        let most = followed(&[(Some(1), 35), (Some(2), 35), (None, 30)], 1.0).scores();
        let all = followed(&[(Some(1), 25), (Some(2), 25), (Some(3), 25), (Some(4), 25)], 1.0).scores();
        for (scores, det_a, ass_a, idf1, mota, switches) in [
            (half, 0.5, 0.5, 50.0 / 75.0, 0.5, 0),
            (most, 0.7, 0.35, 35.0 / 85.0, 0.69, 1),
            (all, 1.0, 0.25, 25.0 / 100.0, 0.97, 3),
        ] {
            assert!(near(scores.det_a, det_a) && near(scores.ass_a, ass_a), "{scores:?}");
            assert!(near(scores.hota, f64::sqrt(det_a * ass_a)), "{scores:?}");
            assert!(near(scores.idf1, idf1) && near(scores.mota, mota), "{scores:?}");
            assert_eq!(scores.switches, switches);
            // Each track is of this truth alone, and nothing is detected that is not there.
            assert_eq!((scores.ass_pr, scores.det_pr, scores.loc_a), (1.0, 1.0, 1.0));
        }
    }

    #[test]
    fn a_similarity_counts_up_to_its_threshold() {
        // 0.05 to 0.6, the last of which is a little more than 0.6 when it is added up from floats.
        let scores = followed(&[(Some(1), 3)], 0.6).scores();
        assert!(near(scores.hota, 12.0 / 19.0), "{scores:?}");
        assert!(near(scores.loc_a, (12.0 * 0.6 + 7.0) / 19.0), "{scores:?}");
        assert_eq!((scores.idf1, scores.mota), (1.0, 1.0));
        let scores = followed(&[(Some(1), 3)], 0.499).scores();
        // What is not alike enough is missed and false at once.
        assert_eq!((scores.idf1, scores.mota), (0.0, -1.0));
    }

    #[test]
    fn a_truth_stays_with_its_track_while_they_are_alike() {
        let mut identities = Identities::default();
        identities.frame(&[1, 2], &[10], &[0.9, 0.0]).unwrap();
        // Both other pairings would have more similarity.
        identities.frame(&[1, 2], &[10, 20], &[0.55, 0.95, 0.95, 0.0]).unwrap();
        assert_eq!(identities.scores().switches, 0);
        identities.frame(&[1, 2], &[10, 20], &[0.45, 0.95, 0.95, 0.0]).unwrap();
        assert_eq!(identities.scores().switches, 1);
        assert_eq!(identities.counts().clear_tp, 1 + 1 + 2);
    }

    #[test]
    fn only_where_others_are_seen_is_a_track_broken() {
        let mut identities = Identities::default();
        identities.frame(&[1], &[10], &[1.0]).unwrap();
        identities.frame(&[1], &[], &[]).unwrap();
        identities.frame(&[1], &[10], &[1.0]).unwrap();
        assert_eq!(identities.scores().fragmentations, 0);
        identities.frame(&[1], &[20], &[0.0]).unwrap();
        identities.frame(&[1], &[10], &[1.0]).unwrap();
        assert_eq!((identities.scores().fragmentations, identities.scores().switches), (1, 0));
    }

    #[test]
    fn a_track_of_another_truth_costs_one_of_them_its_identity() {
        // The two truths change places between their tracks after 6 of 10 frames.
        let mut identities = Identities::default();
        for frame in 0..10 {
            let tracks = if frame < 6 { [10, 20] } else { [20, 10] };
            identities.frame(&[1, 2], &tracks, &[1.0, 0.0, 0.0, 1.0]).unwrap();
        }
        let scores = identities.scores();
        assert_eq!((scores.idf1, scores.idp, scores.idr), (0.6, 0.6, 0.6));
        assert_eq!((scores.switches, scores.mota), (2, 0.9));
        // 12 detections belong to pairs that share 6 of 14, 8 to pairs that share 4 of 16.
        assert!(near(scores.ass_a, (12.0 * 6.0 / 14.0 + 8.0 * 4.0 / 16.0) / 20.0), "{scores:?}");
        assert!(near(scores.ass_re, (12.0 * 0.6 + 8.0 * 0.4) / 20.0), "{scores:?}");
    }

    #[test]
    fn sequences_weigh_as_much_as_there_is_in_them() {
        let (long, short) = (followed(&[(Some(1), 30)], 1.0), followed(&[(Some(1), 5), (Some(2), 5)], 1.0));
        let scores = [long.counts(), short.counts()].iter().sum::<IdentityCounts>().scores();
        assert!(near(scores.ass_a, (30.0 + 10.0 * 0.5) / 40.0), "{scores:?}");
        assert!(near(scores.idf1, 35.0 / 40.0) && near(scores.mota, 39.0 / 40.0), "{scores:?}");
    }

    #[test]
    fn nothing_is_scored_without_a_division_by_it() {
        for (truths, tracks) in [(0, 0), (3, 0), (0, 3)] {
            let mut identities = Identities::default();
            identities.frame(&[1, 2, 3][..truths], &[1, 2, 3][..tracks], &[]).unwrap();
            let scores = identities.scores();
            assert_eq!((scores.hota, scores.det_a, scores.ass_a, scores.idf1, scores.mota), (0.0, 0.0, 0.0, 0.0, 0.0));
            assert_eq!(scores.loc_a, 1.0);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_and_leaves_no_trace() {
        let mut identities = Identities::default();
        let message = |refused: Result<(), FrameError>| refused.unwrap_err().to_string();
        assert!(message(identities.frame(&[1, 2], &[3], &[0.5])).contains("1 similarities of 2 truths with 1 tracks"));
        assert!(message(identities.frame(&[1, 2, 1], &[3], &[0.5; 3])).contains("truth 1"));
        assert!(message(identities.frame(&[1], &[3, 3], &[0.5; 2])).contains("track 3"));
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert!(
                message(identities.frame(&[1, 2], &[3, 4], &[0.5, 0.5, wrong, 0.5])).contains("truth 2 with track 3")
            );
        }
        assert_eq!(identities.counts(), IdentityCounts::default());
    }
}
