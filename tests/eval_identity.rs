//! Holds the measures of identity against TrackEval, on random sequences: it comes with no examples of its own whose
//! scores are known without a download.
//!
//! `TAGALONG_REFERENCE_PYTHON` names a Python with trackeval, numpy and scipy. Without it the test says that it is
//! skipped.

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde::Serialize;
use serde_json::Value;
use tagalong::eval::{Identities, IdentityCounts};

/// The Python that has TrackEval.
fn reference() -> Option<String> {
    let python = std::env::var("TAGALONG_REFERENCE_PYTHON").ok().filter(|python| !python.is_empty());
    let there = |python: &String| {
        let look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('trackeval') is None)";
        Command::new(python).args(["-c", look]).status().is_ok_and(|status| status.success())
    };
    let python = python.filter(there);
    if python.is_none() {
        eprintln!("SKIPPED: TAGALONG_REFERENCE_PYTHON names no Python with trackeval");
    }
    python
}

/// Draws the same values in every run.
struct Draw(TestRunner);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        (0..end).new_tree(&mut self.0).unwrap().current()
    }

    fn fraction(&mut self) -> f64 {
        (0f64..1.0).new_tree(&mut self.0).unwrap().current()
    }

    fn chance(&mut self, of: f64) -> bool {
        self.fraction() < of
    }
}

#[derive(Serialize)]
struct Frame {
    truths: Vec<u64>,
    tracks: Vec<u64>,
    /// (truths, tracks)
    similarity: Vec<f64>,
}

/// How often, frame by frame, what goes wrong does.
struct Faults {
    /// A truth is not there.
    away: f64,
    /// A truth goes without its track.
    lost: f64,
    /// A truth gets a new track.
    renewed: f64,
    /// Two truths change places between their tracks.
    swapped: f64,
    /// There is a track of nothing.
    false_alarm: f64,
    /// A pair that does not belong together overlaps.
    overlap: f64,
}

/// Truths that each have a track of their own, but for `faults`. Similarities are drawn from a continuum, so that no
/// two assignments are equally good; but for one truth's, which lie on the thresholds.
fn sequence(draw: &mut Draw, truths: usize, frames: usize, faults: &Faults) -> Vec<Frame> {
    // Ids are any numbers, and those of tracks may be those of truths.
    let mut own: Vec<u64> = (0..truths as u64).collect();
    let mut fresh = (0..).map(|n: u64| u64::MAX - 977 * n);
    let mut sequence = Vec::new();
    for _ in 0..frames {
        for track in &mut own {
            if draw.chance(faults.renewed) {
                *track = fresh.next().unwrap();
            }
        }
        if truths > 1 && draw.chance(faults.swapped) {
            own.swap(draw.below(truths), draw.below(truths));
        }
        let there: Vec<usize> = (0..truths).filter(|_| !draw.chance(faults.away)).collect();
        let mut tracks: Vec<u64> = own.iter().copied().filter(|_| !draw.chance(faults.lost)).collect();
        if draw.chance(faults.false_alarm) {
            tracks.push(if draw.chance(0.5) { fresh.next().unwrap() } else { 5_000_000 });
        }
        for end in (1..tracks.len()).rev() {
            tracks.swap(end, draw.below(end + 1));
        }
        let mut similarity = Vec::new();
        for truth in &there {
            for track in &tracks {
                similarity.push(match own[*truth] == *track {
                    true if *truth == 0 => draw.below(21) as f64 / 20.0,
                    true => 0.3 + 0.7 * draw.fraction(),
                    false if draw.chance(faults.overlap) => 0.9 * draw.fraction(),
                    false => 0.0,
                });
            }
        }
        sequence.push(Frame { truths: there.iter().map(|truth| 3 * *truth as u64).collect(), tracks, similarity });
    }
    sequence
}

fn sequences() -> Vec<Vec<Frame>> {
    let mut draw = Draw(TestRunner::deterministic());
    let draw = &mut draw;
    let calm = Faults { away: 0.02, lost: 0.02, renewed: 0.01, swapped: 0.01, false_alarm: 0.02, overlap: 0.1 };
    let rough = Faults { away: 0.3, lost: 0.3, renewed: 0.1, swapped: 0.2, false_alarm: 0.5, overlap: 0.6 };
    let perfect = Faults { away: 0.0, lost: 0.0, renewed: 0.0, swapped: 0.0, false_alarm: 0.0, overlap: 0.0 };
    let blind = Faults { lost: 1.0, ..perfect };
    let haunted = Faults { away: 1.0, false_alarm: 1.0, ..perfect };
    let mut sequences = Vec::new();
    for _ in 0..20 {
        for faults in [&calm, &rough] {
            let (truths, frames) = (1 + draw.below(9), 1 + draw.below(80));
            sequences.push(sequence(draw, truths, frames, faults));
        }
    }
    sequences.push(sequence(draw, 30, 60, &rough));
    sequences.push(sequence(draw, 4, 20, &perfect));
    // Nothing is found, and nothing is there to be found.
    sequences.push(sequence(draw, 4, 20, &blind));
    sequences.push(sequence(draw, 3, 20, &haunted));
    sequences
}

/// Our scores and counts under TrackEval's names: a number, or one for each threshold.
fn named(counts: &IdentityCounts) -> Vec<(&'static str, Vec<f64>)> {
    let scores = counts.scores();
    let hits: Vec<f64> = counts.hota.iter().map(|at| at.tp as f64).collect();
    let rest_of = |all: u64| hits.iter().map(|tp| all as f64 - tp).collect::<Vec<_>>();
    let count = |count: u64| vec![count as f64];
    vec![
        ("HOTA_TP", hits.clone()),
        ("HOTA_FN", rest_of(counts.truths)),
        ("HOTA_FP", rest_of(counts.tracks)),
        ("HOTA", vec![scores.hota]),
        ("DetA", vec![scores.det_a]),
        ("DetRe", vec![scores.det_re]),
        ("DetPr", vec![scores.det_pr]),
        ("AssA", vec![scores.ass_a]),
        ("AssRe", vec![scores.ass_re]),
        ("AssPr", vec![scores.ass_pr]),
        ("LocA", vec![scores.loc_a]),
        ("IDTP", count(counts.idtp)),
        ("IDFN", count(counts.truths - counts.idtp)),
        ("IDFP", count(counts.tracks - counts.idtp)),
        ("IDF1", vec![scores.idf1]),
        ("IDP", vec![scores.idp]),
        ("IDR", vec![scores.idr]),
        ("CLR_TP", count(counts.clear_tp)),
        ("CLR_FN", count(counts.truths - counts.clear_tp)),
        ("CLR_FP", count(counts.tracks - counts.clear_tp)),
        ("MOTA", vec![scores.mota]),
        ("IDSW", count(scores.switches)),
        ("Frag", count(scores.fragmentations)),
    ]
}

/// The largest difference of our numbers from TrackEval's. Where we have one and it has one for each threshold, its
/// mean is meant, as in its own tables.
fn difference(name: &str, ours: &IdentityCounts, theirs: &Value) -> f64 {
    let mut largest = 0f64;
    for (field, ours) in named(ours) {
        let mut theirs: Vec<f64> = match &theirs[field] {
            Value::Array(values) => values.iter().map(|value| value.as_f64().unwrap()).collect(),
            value => vec![value.as_f64().unwrap_or_else(|| panic!("{name}: {field} is {value}"))],
        };
        if ours.len() < theirs.len() {
            theirs = vec![theirs.iter().sum::<f64>() / theirs.len() as f64];
        }
        assert_eq!(ours.len(), theirs.len(), "{name}: {field}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - theirs).abs() < 1e-9, "{name}: {field} is {ours}, TrackEval's {theirs}");
            largest = largest.max((ours - theirs).abs());
        }
    }
    largest
}

#[test]
fn scores_are_those_of_trackeval() {
    let Some(python) = reference() else { return };
    let sequences = sequences();
    let folder = tempfile::tempdir().unwrap();
    let (question, answer) = (folder.path().join("sequences.json"), folder.path().join("answer.json"));
    std::fs::write(&question, serde_json::to_vec(&sequences).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/identity_scores.py");
    let output = Command::new(python).arg(script).arg(question).arg(&answer).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Value = serde_json::from_slice(&std::fs::read(answer).unwrap()).unwrap();

    let score = |frames: &Vec<Frame>| {
        let mut identities = Identities::default();
        for Frame { truths, tracks, similarity } in frames {
            identities.frame(truths, tracks, similarity).unwrap();
        }
        identities.counts()
    };
    let ours: Vec<IdentityCounts> = sequences.iter().map(score).collect();
    let mut largest = 0f64;
    for (number, counts) in ours.iter().enumerate() {
        let name = number.to_string();
        largest = largest.max(difference(&name, counts, &theirs[&name]));
    }
    let all: IdentityCounts = ours.iter().sum();
    largest = largest.max(difference("combined", &all, &theirs["combined"]));
    // What is never wrong, or never there, would agree without a proof.
    assert!(all.switches > 100 && all.fragmentations > 100 && all.scores().idf1 < 0.9, "{:?}", all.scores());
    eprintln!("{} sequences differ by {largest:e} at most; all of them: {:?}", ours.len(), all.scores());
}
