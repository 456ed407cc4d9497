//! Holds the measures, seeds, masks and the whole evaluation against the NumPy reference.
//!
//! `TAGALONG_REFERENCE_PYTHON` names a Python with numpy, opencv-python-headless, pillow and, for the whole
//! evaluation, onnxruntime. Without it, or without `../shared`, the tests say that they are skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;
use tagalong::eval::davis::{Annotation, VOID};
use tagalong::eval::measures::score_frame;
use tagalong::eval::run::{self, TrackerError};
use tagalong::eval::{Davis, Score, StageTimes, Tracked, VideoTracker};
use tagalong::propagate::SeedRule;
use tagalong::propagate::seed::seed_mask;
use tagalong::propagate::upsample::Upsampler;
use tagalong::types::{Frame, LabelField, Mask, PatchGrid};

/// What lies in `../shared`, if it is there.
fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

/// The Python that can run the reference, and the reference.
fn reference() -> Option<(String, PathBuf)> {
    let script = shared("reference/propagate.py")?;
    match std::env::var("TAGALONG_REFERENCE_PYTHON") {
        Ok(python) if !python.is_empty() => Some((python, script)),
        _ => {
            eprintln!("SKIPPED: TAGALONG_REFERENCE_PYTHON names no Python with numpy and cv2");
            None
        }
    }
}

fn execute(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Draws the same values in every run.
struct Draw(TestRunner);

impl Draw {
    fn new() -> Draw {
        Draw(TestRunner::deterministic())
    }

    fn below(&mut self, end: usize) -> usize {
        (0..end).new_tree(&mut self.0).unwrap().current()
    }

    fn fraction(&mut self) -> f32 {
        (0f32..1.0).new_tree(&mut self.0).unwrap().current()
    }

    /// Some ellipses, (height, width), of 0 and 1.
    fn blobs(&mut self, width: usize, height: usize) -> Vec<u8> {
        let (w, h) = (width as f32, height as f32);
        let ellipses: Vec<[f32; 4]> = (0..self.below(5))
            .map(|_| [self.fraction() * w, self.fraction() * h, self.fraction() * w / 3.0, self.fraction() * h / 3.0])
            .collect();
        let inside = |x: usize, y: usize| {
            ellipses.iter().any(|[u, v, a, b]| ((x as f32 - u) / a).powi(2) + ((y as f32 - v) / b).powi(2) < 1.0)
        };
        (0..width * height).map(|i| u8::from(inside(i % width, i / width))).collect()
    }
}

const SIZES: [(usize, usize); 6] = [(854, 480), (640, 480), (101, 67), (64, 128), (7, 5), (333, 500)];

#[test]
fn measures_seeds_and_masks_are_those_of_the_reference() {
    let Some((python, script)) = reference() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, end: &str| folder.path().join(format!("{name}.{end}"));
    let mut draw = Draw::new();
    let mut questions = Vec::new();

    let mut pairs = Vec::new();
    for round in 0..60 {
        let (width, height) = SIZES[round % SIZES.len()];
        let predicted = draw.blobs(width, height);
        // Some truths are close to what is predicted, as they are in life; and some pixels are void.
        let other = draw.blobs(width, height);
        let void = draw.blobs(width, height);
        let shift = draw.below(4);
        let truth: Vec<u8> = (0..width * height)
            .map(|i| match (void[i], round % 3) {
                (1, 1 | 2) => VOID,
                (_, 2) => predicted[i.saturating_sub(shift)],
                _ => other[i],
            })
            .collect();
        let name = format!("score{round}");
        fs::write(at(&name, "predicted"), &predicted).unwrap();
        fs::write(at(&name, "truth"), &truth).unwrap();
        questions.push(json!({"ask": "score", "name": name, "width": width, "height": height}));
        let mask = Mask::from_pixels(width, height, &predicted, 1);
        pairs.push(score_frame(&[mask], &Annotation { width, height, pixels: truth })[0]);
    }

    let mut seeds = Vec::new();
    for (round, (width, height)) in SIZES.into_iter().enumerate() {
        for (rows, cols) in [(30, 53), (30, 40), (5, 7), (3, 4)] {
            if rows > height || cols > width {
                continue;
            }
            let pixels = draw.blobs(width, height);
            let mask = Mask::from_pixels(width, height, &pixels, 1);
            for (soft, rule) in [(false, SeedRule::Nearest), (true, SeedRule::Area)] {
                let name = format!("seed{round}-{rows}-{cols}-{soft}");
                fs::write(at(&name, "mask"), &pixels).unwrap();
                questions.push(json!({"ask": "seed", "name": name, "width": width, "height": height, "rows": rows,
                    "cols": cols, "soft": soft}));
                seeds.push((name, rule, seed_mask(&mask, PatchGrid { rows, cols, patch: 16 }, rule)));
            }
        }
    }

    let mut masks = Vec::new();
    for (round, (width, height)) in SIZES.into_iter().enumerate() {
        for (rows, cols, patch) in [(30, 53, 16), (30, 40, 16), (20, 35, 14), (4, 6, 8), (1, 1, 16)] {
            for min_max in [false, true] {
                let (grid, instances) = (PatchGrid { rows, cols, patch }, draw.below(4) + 1);
                let mut field = LabelField::background(grid, instances);
                for k in 1..=instances {
                    let blobs = draw.blobs(cols, rows);
                    for (patch, _) in blobs.iter().enumerate().filter(|(_, blob)| **blob == 1) {
                        let (row, label) = (patch * (instances + 1), draw.fraction());
                        let label = label.min(field.data[row]);
                        field.data[row + k] += label;
                        field.data[row] -= label;
                    }
                }
                let name = format!("masks{round}-{rows}-{cols}-{min_max}");
                let bytes: Vec<u8> = field.data.iter().flat_map(|v| v.to_le_bytes()).collect();
                fs::write(at(&name, "field"), bytes).unwrap();
                questions.push(json!({"ask": "masks", "name": name, "width": width, "height": height, "rows": rows,
                    "cols": cols, "patch": patch, "min_max": min_max}));
                let mut pixels = vec![0; width * height];
                let found = Upsampler::default().masks(&field, width, height, min_max);
                found.iter().enumerate().for_each(|(k, mask)| mask.paint(&mut pixels, k as u8 + 1));
                masks.push((name, pixels));
            }
        }
    }

    fs::write(folder.path().join("questions.json"), serde_json::to_string(&questions).unwrap()).unwrap();
    let answer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/answer.py");
    execute(Command::new(python).arg(answer).arg(script).arg(folder.path()));

    let scores: Vec<[f64; 2]> = serde_json::from_slice(&fs::read(folder.path().join("scores.json")).unwrap()).unwrap();
    assert_eq!(scores.len(), pairs.len());
    for (round, (ours, [j, f])) in pairs.iter().zip(scores).enumerate() {
        assert!((ours.j - j).abs() < 1e-12 && (ours.f - f).abs() < 1e-12, "score{round}: {ours:?}, reference {j} {f}");
    }
    let mut largest = 0f32;
    for (name, rule, ours) in seeds {
        let bytes = fs::read(at(&name, "answer")).unwrap();
        let theirs: Vec<f32> = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // OpenCV ignores what a pixel adds to a patch when it is less than a thousandth of the pixel.
        let allowed = if rule == SeedRule::Nearest { 0.0 } else { 1e-3 };
        assert!(difference <= allowed, "{name}: {difference}");
        largest = largest.max(difference);
    }
    let (mut differ, mut all) = (0, 0);
    for (name, ours) in masks {
        let theirs = fs::read(at(&name, "answer")).unwrap();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let different = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        // OpenCV's bilinear weights are rounded differently, so that pixels on a border may fall either way.
        assert!(different <= ours.len() / 10_000 + 1, "{name}: {different} of {} pixels", ours.len());
        differ += different;
        all += ours.len();
    }
    eprintln!("seeds differ by {largest:e} at most; masks in {differ} of {all} pixels");
}

/// A short sequence of the data at hand.
const SEQUENCE: &str = "rollerblade";

/// What `tagalong eval` says and saves of [`SEQUENCE`] with a preset.
fn evaluate(preset: &str, save: &Path) -> Option<serde_json::Value> {
    let (model, davis) = (shared("models/vit_tiny_patch16_480x848.onnx")?, shared("data/davis")?);
    let json = save.join("report.json");
    execute(
        Command::new(env!("CARGO_BIN_EXE_tagalong"))
            .args(["eval", "--output", "x6", "--patch", "16", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"])
            .args(["--sequences", SEQUENCE, "--preset", preset, "--model"])
            .arg(model)
            .arg("--davis")
            .arg(davis)
            .arg("--save")
            .arg(save)
            .arg("--json")
            .arg(&json),
    );
    Some(serde_json::from_slice(&fs::read(json).unwrap()).unwrap())
}

/// J and F of each sequence by `preset`, out of the table that lies beside the reference.
fn published(preset: &str) -> Option<BTreeMap<String, [f64; 2]>> {
    let table = fs::read_to_string(shared("reference/scores.md")?).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = table.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    let heading = match preset {
        "dino" => "published",
        other => other,
    };
    let column = |measure: &str| {
        let title = format!("{heading} {measure}");
        lines[0].iter().position(|cell| *cell == title).unwrap_or_else(|| panic!("no column {title}"))
    };
    let (j, f) = (column("J"), column("F"));
    let scores =
        lines.iter().skip(2).filter_map(|line| Some((line[1].clone(), [line[j].parse().ok()?, line[f].parse().ok()?])));
    Some(scores.collect())
}

#[test]
fn the_table_of_scores_is_read() {
    for preset in ["dino", "soft"] {
        let Some(scores) = published(preset) else { return };
        assert!(scores.len() == 16 && scores.values().flatten().all(|v| (0.0..=1.0).contains(v)), "{scores:?}");
    }
}

/// Shows masks that were found before.
struct Shown {
    folder: PathBuf,
    index: usize,
    instances: usize,
}

impl VideoTracker for Shown {
    fn begin(&mut self, _: &Frame, masks: &[Mask]) -> Result<StageTimes, TrackerError> {
        (self.index, self.instances) = (0, masks.len());
        Ok(StageTimes::default())
    }

    fn step(&mut self, _: &Frame) -> Result<Tracked, TrackerError> {
        self.index += 1;
        let found = Annotation::read(&self.folder.join(format!("{:05}.png", self.index)))?;
        Ok(Tracked { masks: found.masks(self.instances), times: StageTimes::default() })
    }
}

/// Our evaluation with a preset against what is published of the reference, and against the reference itself, with
/// `options` that make it the same rule, where there is a Python for it.
fn hold(preset: &str, options: &[&str]) {
    let save = tempfile::tempdir().unwrap();
    let (Some(published), Some(report)) = (published(preset), evaluate(preset, save.path())) else { return };
    let published = published[SEQUENCE];
    let ours = &report["sequences"][SEQUENCE];
    for (measure, theirs) in ["j", "f"].into_iter().zip(published) {
        let ours = ours[measure].as_f64().unwrap();
        assert!((ours - theirs).abs() <= 0.003, "{preset} {measure}: {ours}, reference {theirs}");
    }

    let Some((theirs, davis)) = save_reference(options) else { return };
    let equal = equal_pixels(&save.path().join(SEQUENCE), &theirs.path().join(SEQUENCE));
    eprintln!("{preset}: {:.3}% of pixels are equal", equal * 100.0);
    assert!(equal >= 0.995, "{preset}: only {equal} of the pixels are equal");

    let mut shown = Shown { folder: theirs.path().join(SEQUENCE), index: 0, instances: 0 };
    let davis = Davis::open(&davis, None).unwrap();
    let report = run::evaluate(&davis, &[SEQUENCE.to_owned()], None, &mut shown, None, &mut |_| ()).unwrap();
    let Score { j, f } = report.sequences[0].score;
    let [their_j, their_f] = published;
    // The table has four digits; and a version of the reference's libraries may move a pixel on a border.
    assert!((j - their_j).abs() < 2e-4 && (f - their_f).abs() < 2e-4, "{j} {f}, reference {their_j} {their_f}");
}

#[test]
fn the_published_rule_is_the_reference() {
    hold("dino", &[]);
}

#[test]
fn the_soft_rule_is_the_reference() {
    hold("soft", &["--soft-seed", "--no-min-max"]);
}

/// Runs the reference on [`SEQUENCE`]; the folder of the masks that it saved, and the data set.
fn save_reference(options: &[&str]) -> Option<(tempfile::TempDir, PathBuf)> {
    let (python, script) = reference()?;
    let (model, davis) = (shared("models/vit_tiny_patch16_480x848.onnx")?, shared("data/davis")?);
    let saved = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.arg(script).args(["--output", "x6", "--sequences", SEQUENCE, "--model"]).arg(model);
    execute(command.arg("--davis").arg(&davis).arg("--save").arg(saved.path()).args(options));
    Some((saved, davis))
}

/// The fraction of pixels that are equal in two folders of masks of the same names.
fn equal_pixels(ours: &Path, theirs: &Path) -> f64 {
    let (mut equal, mut all) = (0, 0);
    for entry in fs::read_dir(theirs).unwrap() {
        let path = entry.unwrap().path();
        let theirs = Annotation::read(&path).unwrap();
        let ours = Annotation::read(&ours.join(path.file_name().unwrap())).unwrap();
        assert_eq!((ours.width, ours.height), (theirs.width, theirs.height), "{}", path.display());
        equal += ours.pixels.iter().zip(&theirs.pixels).filter(|(a, b)| a == b).count();
        all += theirs.pixels.len();
    }
    assert!(all > 0, "the reference saved no masks");
    equal as f64 / all as f64
}
