//! The comparison of features: it repeats, it knows chance, it sees what is lost and won back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tagalong::config::Config;
use tagalong::eval::{Davis, Sequence};
use tagalong::model::import::{Import, import};
use tagalong::study::extractor::Noise;
use tagalong::study::study as study_model;
use tagalong::study::{Measure, Plan, Scores, Treatment};
use tagalong::types::PatchGrid;

mod davis_scene;
mod study_controls;
use study_controls::{loud, random};

fn study(models: &[&Path], davis: &Path, out: &Path, more: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tagalong"))
        .arg("study")
        .args(models)
        .args([Path::new("--davis"), davis, Path::new("--out"), out])
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A report, the models in the order in which they were studied.
struct Report(Value);

impl Report {
    fn read(out: &Path) -> Report {
        Report(serde_json::from_str(&fs::read_to_string(out.join("report.json")).unwrap()).unwrap())
    }

    fn cells(&self, model: usize) -> &Vec<Value> {
        self.0["models"][model]["cells"].as_array().unwrap()
    }

    fn cell(&self, model: usize, pictures: &str, treatment: &str) -> &Value {
        let wanted = |cell: &&Value| cell["pictures"] == pictures && cell["treatment"] == treatment;
        self.cells(model).iter().find(wanted).unwrap_or_else(|| panic!("no {pictures}, {treatment}"))
    }

    /// Of pictures as they are.
    fn score(&self, model: usize, treatment: &str, measure: &str) -> f64 {
        self.cell(model, "as they are", treatment)["scores"][measure].as_f64().unwrap()
    }

    /// The last model is noise.
    fn noise(&self) -> usize {
        self.0["models"].as_array().unwrap().len() - 1
    }

    /// The mean of what the tasks are judged by.
    fn overall(&self, model: usize, treatment: &str) -> f64 {
        let score = |measure| self.score(model, treatment, measure);
        let jf = (score("j") + score("f")) / 2.0;
        ["accuracy", "auc", "map", "followed"].map(score).iter().sum::<f64>() / 5.0 + jf / 5.0
    }

    /// Features that know nothing score what chance says, as far as so few of them tell.
    fn assert_noise_is_chance(&self) {
        let cell = self.cell(self.noise(), "as they are", "as they are");
        // Of each size alone there are too few.
        for (measure, chance) in cell["chance"].as_object().unwrap().iter().filter(|(m, _)| !m.starts_with("map_")) {
            let (score, chance) = (cell["scores"][measure].as_f64().unwrap(), chance.as_f64().unwrap());
            assert!((score - chance).abs() < 0.1, "{measure}: {score} where chance is {chance}");
        }
        assert!(cell["chance"].as_object().unwrap().len() >= 6, "{cell}");
    }

    /// Of what a model loses to another one, the share that a treatment wins back.
    fn won_back(&self, whole: usize, spoilt: usize, treatment: &str) -> f64 {
        let (before, after) = (self.overall(whole, "as they are"), self.overall(spoilt, "as they are"));
        assert!(before - after > 0.03, "nothing was lost: {before} and {after}");
        (self.overall(spoilt, treatment) - after) / (before - after)
    }
}

/// The bundled model as files, and the same with five loud dimensions.
fn bundled(folder: &Path) -> [PathBuf; 2] {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for name in ["bundled.onnx", "bundled.probe", "bundled.toml"] {
        fs::copy(models.join(name), folder.join(name)).unwrap();
    }
    let manifest = folder.join("bundled.toml");
    let model = tagalong::embed::ModelConfig::new(manifest.to_string_lossy());
    let dim = tagalong::embed::load(&tagalong::embed::ModelConfig { threads: 1, ..model });
    let dim = dim.unwrap().spec().dim;
    let loud = loud(&manifest, dim, &[1, dim / 4, dim / 2, dim - 7, dim - 2], 50.0, "loud").unwrap();
    [manifest, loud]
}

/// Three videos of the built-in scene.
fn videos(root: &Path) {
    for (seed, name) in ["one", "two", "three"].into_iter().enumerate() {
        davis_scene::write_video(root, name, seed as u64 + 1, [240, 320], 7, 6);
    }
}

/// Noise many times over comes to what chance was worked out to be.
#[test]
fn chance_is_what_noise_scores_on_average() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("davis");
    videos(&root);
    let davis = Davis::open(&root, None).unwrap();
    let sequences: Vec<Sequence> = davis.names().iter().map(|name| davis.sequence(name).unwrap()).collect();
    let config = Config::builtin();
    let mut plan = Plan {
        every: 1,
        shots: 2,
        k: 1,
        treatments: vec![Treatment::AsTheyAre],
        degradations: Vec::new(),
        seed: 0,
        rule: config.presets["soft"].clone(),
        track: config.track.clone(),
    };
    let mut all = Scores::default();
    for seed in 0..24 {
        plan.seed = seed;
        let mut noise = Noise::new(PatchGrid { rows: 15, cols: 20, patch: 16 }, 24, seed);
        let studied = study_model(&mut noise, &sequences, &plan, &mut |_| {}).unwrap();
        studied.cells.into_iter().for_each(|cell| all.merge(cell.scores));
    }
    let mut known = 0;
    for measure in Measure::ALL {
        let (Some(score), Some(chance)) = (all.get(measure), all.chance(measure)) else { continue };
        println!("{measure}: {score:.4}, chance {chance:.4}");
        assert!((score - chance).abs() < 0.015, "{measure}: {score}, chance {chance}");
        known += 1;
    }
    assert!(known >= 8, "chance is known of {known} measures");
}

#[test]
fn what_is_drowned_is_seen_and_won_back() {
    let folder = tempfile::tempdir().unwrap();
    let (davis, out) = (folder.path().join("davis"), folder.path().join("out"));
    videos(&davis);
    let [whole, spoilt] = bundled(folder.path());
    let options = ["--drop", "5,10000", "--degrade", "blur=1,rotation=20,brightness=0.2", "--every", "1"];
    let (code, text, errors) = study(&[&whole, &spoilt], &davis, &out, &options);
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    let report = Report::read(&out);
    report.assert_noise_is_chance();
    for treatment in ["drop 5", "standardised"] {
        let share = report.won_back(0, 1, treatment);
        assert!(share > if treatment == "drop 5" { 0.9 } else { 0.5 }, "{treatment} wins back {share}");
    }
    // Far above chance, and worse the worse the pictures are.
    let noise = report.noise();
    let mut lost = 0.0;
    for measure in ["accuracy", "auc", "map", "followed", "j"] {
        let (score, chance) = (report.score(0, "as they are", measure), report.score(noise, "as they are", measure));
        assert!(score > chance + 0.15, "{measure}: {score} where noise has {chance}");
        for pictures in ["blur 1", "rotation 20", "brightness 0.2"] {
            let degraded = report.cell(0, pictures, "as they are")["scores"][measure].as_f64().unwrap();
            lost += score - degraded;
        }
    }
    assert!(lost > 0.5, "degraded pictures cost {lost} in all");
    // Four kinds of pictures; as they are, centred, dropped, standardised, projected.
    assert_eq!(report.cells(0).len(), 20);
    assert_eq!(report.cells(noise).len(), 1);

    let markdown = fs::read_to_string(out.join("report.md")).unwrap();
    for part in
        ["## bundled\n", "## loud\n", "## noise\n", "| *chance* |", "| one/1 |", "too few dimensions for: drop 10000"]
    {
        assert!(markdown.contains(part), "{part} is not in {markdown}");
    }
    for plot in ["dropped.svg", "degraded-bundled.svg", "degraded-loud.svg"] {
        let svg = fs::read_to_string(out.join(plot)).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{plot}");
        assert!(svg.contains("<polyline") && svg.contains("<circle"), "{plot}");
    }
    assert!(text.contains("class accuracy") && text.contains("report.md"), "{text}");

    // Every class once.
    let json = fs::read_to_string(out.join("report.json")).unwrap();
    let line = json.lines().nth(2).unwrap();
    for class in ["background", "one/1", "three/2"] {
        assert_eq!(line.matches(&format!("\"{class}\":")).count(), 1, "{line}");
    }
}

#[test]
fn the_same_command_gives_the_same_report_to_the_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let davis = folder.path().join("davis");
    for (seed, name) in ["one", "two"].into_iter().enumerate() {
        davis_scene::write_video(&davis, name, seed as u64 + 1, [240, 320], 5, 6);
    }
    let bundled = Path::new("bundled");
    let run = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let options = [&["--drop", "5", "--degrade", "noise=0.1", "--every", "1"], more].concat();
        let (code, text, errors) = study(&[bundled], &davis, &out, &options);
        assert_eq!((code, errors.as_str()), (0, ""), "{text}");
        ["report.json", "report.md", "dropped.svg", "degraded-bundled.svg"]
            .map(|file| fs::read_to_string(out.join(file)).unwrap())
    };
    let first = run("first", &[]);
    // A video that is named twice is one, and their order is always the same.
    assert_eq!(run("again", &["--sequences", "two,one,two"]), first);
    // Another seed samples other patches, and adds other noise.
    let other = run("other", &["--seed", "2"]);
    assert_ne!(other[0].lines().nth(2), first[0].lines().nth(2));
}

/// J and F of every frame of one video are what `eval` makes of it.
#[test]
fn propagation_is_that_of_eval() {
    let folder = tempfile::tempdir().unwrap();
    let (davis, out) = (folder.path().join("davis"), folder.path().join("out"));
    davis_scene::write_video(&davis, "alone", 1, [240, 320], 8, 3);
    let options = ["--degrade", "none", "--drop", "1", "--every", "1"];
    assert_eq!(study(&[Path::new("bundled")], &davis, &out, &options).0, 0);
    let output = Command::new(env!("CARGO_BIN_EXE_tagalong"))
        .args(["eval", "--preset", "soft", "--model", "bundled", "--json", "-", "--davis"])
        .arg(&davis)
        .output()
        .unwrap();
    let eval: Value = serde_json::from_slice(&output.stdout).unwrap();
    let report = Report::read(&out);
    for measure in ["j", "f"] {
        let (got, expected) = (report.score(0, "as they are", measure), eval["mean"][measure].as_f64().unwrap());
        assert!(expected > 0.2 && (got - expected).abs() < 1e-4, "{measure}: {got}, but eval has {expected}");
    }
}

#[test]
fn several_neighbours_and_shots_and_one_video_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (davis, out) = (folder.path().join("davis"), folder.path().join("out"));
    davis_scene::write_video(&davis, "alone", 1, [120, 160], 5, 6);
    let options = ["--k", "3", "--shots", "2", "--degrade", "none", "--drop", "1", "--every", "1"];
    let (code, text, errors) = study(&[Path::new("bundled")], &davis, &out, &options);
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    let report = Report::read(&out);
    let chance = &report.cell(0, "as they are", "as they are")["chance"];
    assert!(chance.get("accuracy").is_none() && chance["auc"] == 0.5, "chance is not known of votes: {chance}");
    let markdown = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(markdown.contains("one video alone") && markdown.contains("in the classification: 2;"), "{markdown}");
}

#[test]
fn what_cannot_be_done_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (davis, out) = (folder.path().join("davis"), folder.path().join("out"));
    davis_scene::write_video(&davis, "alone", 1, [48, 64], 3, 6);
    let (bundled, missing) = (PathBuf::from("bundled"), folder.path().join("missing.toml"));
    let root = folder.path().to_owned();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("report.md"), "mine").unwrap();
    let elsewhere = folder.path().join("elsewhere");
    for (model, davis, out, more, code, problem) in [
        (&bundled, &davis, &out, &[][..], 73, "something in it already"),
        (&bundled, &davis, &elsewhere, &["--sequences", "boat"], 65, "no sequence \"boat\""),
        (&bundled, &root, &elsewhere, &[], 65, "DAVIS layout"),
        (&missing, &davis, &elsewhere, &[], 66, "missing.toml"),
        (&bundled, &davis, &elsewhere, &["--degrade", "fog=1"], 64, "a degradation is blur="),
        (&bundled, &davis, &elsewhere, &["--preset", "x"], 64, "no preset"),
        (&bundled, &davis, &elsewhere, &["--every", "0"], 64, "--every"),
        (&bundled, &davis, &elsewhere, &["--project", "0"], 64, "--project"),
        (&bundled, &davis, &elsewhere, &["bundled"], 64, "another one is called bundled"),
        (&bundled, &davis, &PathBuf::from("/dev/null/report"), &[], 73, "/dev/null/report"),
    ] {
        let (got, text, errors) = study(&[model], davis, out, more);
        assert_eq!(got, code, "{more:?}: {text}{errors}");
        assert!(errors.contains(problem), "{more:?}: {errors}");
    }
    assert_eq!(fs::read_to_string(out.join("report.md")).unwrap(), "mine");
}

/// On real weights and real video: five dimensions scaled up 50 times cost much, and dropping them wins it back.
#[test]
fn real_weights_win_back_what_loud_dimensions_cost() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let (checkpoint, davis) = (shared.join("models/vit_tiny_patch16_224.safetensors"), shared.join("data/davis"));
    if !checkpoint.exists() || !davis.exists() {
        eprintln!("SKIPPED: {} is not there", checkpoint.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let made = |checkpoint: &Path, name: &str| {
        let input_sizes = vec![[240, 432]];
        let wanted = Import { input_sizes, layer: Some(6), name: name.into(), ..Import::default() };
        import(checkpoint, &wanted, folder.path()).unwrap().manifest
    };
    let whole = made(&checkpoint, "tiny");
    let spoilt = loud(&whole, 192, &[19, 57, 96, 134, 172], 50.0, "loud").unwrap();
    random(&checkpoint, 1, &folder.path().join("random.safetensors")).unwrap();
    let untrained = made(&folder.path().join("random.safetensors"), "untrained");
    let options = ["--sequences", "boat,breakdance-flare,soccerball,tennis", "--every", "16", "--drop", "5"];
    let options = [&options[..], &["--degrade", "brightness=0.1"]].concat();
    let (code, text, errors) = study(&[&whole, &spoilt, &untrained], &davis, &out, &options);
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    println!("{text}");
    let report = Report::read(&out);
    report.assert_noise_is_chance();
    let share = report.won_back(0, 1, "drop 5");
    assert!(share >= 0.95, "dropping wins back {share} of the loss");
    assert!(report.overall(2, "as they are") < report.overall(0, "as they are") - 0.05, "training is worth something");
    // An untrained network passes on what the pixels are. Where they are not what they were, its AUC is that of chance.
    let dark =
        |model: usize, of: &str| report.cell(model, "brightness 0.1", "as they are")[of]["auc"].as_f64().unwrap();
    let (trained, untrained, chance) = (dark(0, "scores"), dark(2, "scores"), dark(2, "chance"));
    assert!((untrained - chance).abs() < 0.06, "untrained: {untrained}, chance: {chance}");
    assert!(trained > chance + 0.3, "trained: {trained}, chance: {chance}");
}
