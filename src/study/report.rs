//! What a study found, as JSON and as Markdown.

use std::fmt::Write;

use serde::Serialize;

use super::scores::{Measure, Scores};
use super::{CLEAN, Cell, ModelStudy, Plan, Treatment};
use crate::propagate::PropagateConfig;

/// Scores of several models, and how they came about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub settings: Settings,
    pub models: Vec<ModelStudy>,
}

/// All that the scores follow from, beside the models.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    pub videos: Vec<String>,
    pub every: usize,
    pub shots: usize,
    pub k: usize,
    pub seed: u64,
    /// The rule of propagation, and its constants.
    pub preset: String,
    pub rule: PropagateConfig,
    /// Of this program.
    pub version: &'static str,
}

impl Settings {
    pub fn new(videos: Vec<String>, plan: &Plan, preset: &str) -> Settings {
        Settings {
            videos,
            every: plan.every,
            shots: plan.shots,
            k: plan.k,
            seed: plan.seed,
            preset: preset.into(),
            rule: plan.rule.clone(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// What a task is judged by, where one number must do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Judged {
    One(Measure),
    Jf,
    Overall,
}

impl Judged {
    pub const TASKS: [Judged; 5] = [
        Judged::One(Measure::Accuracy),
        Judged::One(Measure::Auc),
        Judged::One(Measure::Retrieval),
        Judged::One(Measure::Followed),
        Judged::Jf,
    ];

    pub fn name(self) -> String {
        match self {
            Judged::One(measure) => measure.to_string(),
            Judged::Jf => "J&F".into(),
            Judged::Overall => "mean of the tasks".into(),
        }
    }

    pub fn of(self, scores: &Scores) -> Option<f64> {
        match self {
            Judged::One(measure) => scores.get(measure),
            Judged::Jf => scores.jf(),
            Judged::Overall => scores.overall(),
        }
    }
}

impl ModelStudy {
    /// The scores of one treatment on one kind of pictures.
    pub fn scores(&self, pictures: &str, treatment: &str) -> Option<&Scores> {
        let wanted = |cell: &&Cell| cell.pictures == pictures && cell.treatment == treatment;
        self.cells.iter().find(wanted).map(|cell| &cell.scores)
    }

    /// The treatments that were tried, in order.
    pub fn treatments(&self) -> Vec<&str> {
        self.cells.iter().filter(|cell| cell.pictures == CLEAN).map(|cell| cell.treatment.as_str()).collect()
    }

    /// The kinds of pictures, those as they are first.
    pub fn pictures(&self) -> Vec<&str> {
        let plain = Treatment::AsTheyAre.to_string();
        self.cells.iter().filter(|cell| cell.treatment == plain).map(|cell| cell.pictures.as_str()).collect()
    }
}

impl Report {
    /// One table a model for pictures as they are, one a task for degraded ones, and one of its classes.
    pub fn to_markdown(&self) -> String {
        let Settings { videos, every, shots, k, seed, preset, rule, version } = &self.settings;
        let mut text = String::from("# What frozen features are worth to nearest neighbours\n\n");
        let _ = write!(
            text,
            "Written by `tagalong study` {version}; nothing was trained. Scores are between 0 and 1, more is \
             better.\n\n\
             - Videos ({}): {}.\n\
             - One frame in {every} of each, more of short ones.\n\
             - k = {k} by cosine; labelled frames of each video in the classification: {shots}; seed {seed}.\n\
             - J and F are of masks given in the first of these frames, and propagated through them by the preset \
             `{preset}`; means over objects. With all frames they are higher: see `tagalong eval`.\n\
             - What is labelled is of pictures as they are, what is to be found is degraded. A turned picture's \
             patches may lie beyond the window of propagation, {} patches.\n\
             - Treatments were fitted to one half of the videos and tried on the other{}.\n",
            videos.len(),
            videos.join(", "),
            rule.radius,
            if videos.len() < 2 { ": but here is one video alone, and it was fitted to itself" } else { "" }
        );
        for model in &self.models {
            text.push('\n');
            self.model(model, &mut text);
        }
        text
    }

    fn model(&self, model: &ModelStudy, text: &mut String) {
        let _ = write!(
            text,
            "## {}\n\n{}x{} patches of {} pixels, {} dimensions{}.\n\n### Pictures as they are\n\n",
            model.name,
            model.grid[0],
            model.grid[1],
            model.patch,
            model.dim,
            match &model.sha256[..] {
                "" => String::new(),
                sha256 => format!(", graph {}", &sha256[..sha256.len().min(12)]),
            }
        );
        if !model.unfit.is_empty() {
            let _ = write!(text, "It has too few dimensions for: {}.\n\n", model.unfit.join("; "));
        }
        let head = Measure::ALL.map(|measure| measure.to_string()).join(" | ");
        let _ = write!(text, "| features | {head} | J&F |\n|---|{}\n", "---|".repeat(Measure::ALL.len() + 1));
        for (at, treatment) in model.treatments().into_iter().enumerate() {
            let Some(scores) = model.scores(CLEAN, treatment) else { continue };
            let row = Measure::ALL.map(|measure| number(scores.get(measure))).join(" | ");
            if at == 0 {
                let chance = Measure::ALL.map(|measure| number(scores.chance(measure))).join(" | ");
                let _ = writeln!(text, "| *chance* | {chance} | |");
            }
            let _ = writeln!(text, "| {treatment} | {row} | {} |", number(scores.jf()));
        }
        if model.pictures().len() > 1 {
            for judged in Judged::TASKS.into_iter().chain([Judged::Overall]) {
                degraded(model, judged, text);
            }
        }
        let plain = model.scores(CLEAN, &Treatment::AsTheyAre.to_string());
        if let Some(scores) = plain.filter(|scores| !scores.classes.is_empty()) {
            text.push_str(
                "\n### Class by class, nothing treated or degraded\n\n| class | accuracy | IoU |\n|---|---|---|\n",
            );
            for class in &scores.classes {
                let (accuracy, iou) = (number(Some(class.accuracy())), number(Some(class.iou())));
                let _ = writeln!(text, "| {} | {accuracy} | {iou} |", class.name);
            }
        }
    }
}

fn degraded(model: &ModelStudy, judged: Judged, text: &mut String) {
    let treatments = model.treatments();
    let _ = write!(
        text,
        "\n### Degraded: {}\n\n| pictures | *chance* | {} |\n|---|---|{}\n",
        judged.name(),
        treatments.join(" | "),
        "---|".repeat(treatments.len())
    );
    for pictures in model.pictures() {
        let scores = |treatment: &str| model.scores(pictures, treatment);
        let chance = match judged {
            Judged::One(measure) => treatments.first().and_then(|first| scores(first)?.chance(measure)),
            Judged::Jf | Judged::Overall => None,
        };
        let row = treatments.iter().map(|treatment| number(scores(treatment).and_then(|scores| judged.of(scores))));
        let row: Vec<String> = row.collect();
        let _ = writeln!(text, "| {pictures} | {} | {} |", number(chance), row.join(" | "));
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propagate::{SeedRule, Window};
    use crate::study::scores::ClassCounts;

    pub fn report() -> Report {
        let cell = |pictures: &str, treatment: &str, score: f64| {
            let mut scores = Scores::default();
            for measure in Measure::ALL {
                scores.push(measure, score, Some(0.125));
            }
            scores.classes.push(ClassCounts { name: "boat/1".into(), patches: 4, told: 6, right: 2 });
            Cell { pictures: pictures.into(), treatment: treatment.into(), scores }
        };
        let cells = vec![
            cell(CLEAN, "as they are", 0.5),
            cell(CLEAN, "drop 2", 0.75),
            cell("blur 1", "as they are", 0.25),
            cell("blur 1", "drop 2", 0.375),
        ];
        let model = ModelStudy {
            name: "small".into(),
            sha256: "0123456789abcdef".into(),
            grid: [3, 4],
            patch: 14,
            dim: 8,
            unfit: vec!["drop 9".into()],
            cells,
        };
        let settings = Settings {
            videos: vec!["boat".into(), "swing".into()],
            every: 8,
            shots: 1,
            k: 1,
            seed: 1,
            preset: "soft".into(),
            rule: PropagateConfig {
                top_k: 5,
                context_frames: 7,
                radius: 12,
                window: Window::Square,
                temperature: 0.1,
                seed: SeedRule::Area,
                min_max: false,
                refine_radius: 0.0,
                refine_epsilon: 0.002,
                zoom: 1.0,
                density: 1.0,
            },
            version: "0",
        };
        Report { settings, models: vec![model] }
    }

    #[test]
    fn every_score_stands_in_the_tables() {
        let text = report().to_markdown();
        let row = |name: &str, score: &str| format!("| {name} |{}", format!(" {score} |").repeat(13));
        assert!(text.contains(&row("as they are", "0.500")) && text.contains(&row("drop 2", "0.750")), "{text}");
        assert!(text.contains(&format!("| *chance* |{} |", " 0.125 |".repeat(12))), "{text}");
        assert_eq!(text.matches("| 0.250 | 0.375 |\n").count(), 6, "five tasks and their mean: {text}");
        assert!(text.contains("\n| boat/1 | 0.500 | 0.250 |\n"), "{text}");
        assert!(text.contains("too few dimensions for: drop 9."), "{text}");
        assert!(text.contains("\n| blur 1 | 0.125 | 0.250 | 0.375 |\n"), "with its chance: {text}");
        assert!(text.contains("3x4 patches of 14 pixels, 8 dimensions, graph 0123456789ab."), "{text}");
    }
}
