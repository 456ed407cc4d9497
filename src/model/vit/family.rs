//! The families of vision transformers: what is the same for all models of one.

use super::positions::{Positions, Resampling};
use super::weights::{Naming, Weights};
use crate::model::checkpoint::CheckpointError;

/// What the models of one family have in common.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// As it stands in manifests.
    pub name: &'static str,
    /// In a sentence.
    pub title: &'static str,
    /// Subtracted from red, green and blue in [0, 1].
    pub mean: [f32; 3],
    /// What each is then divided by.
    pub std: [f32; 3],
    /// The terms of the authors' weights, an SPDX expression or a sentence.
    pub licence: &'static str,
    /// A block in the middle serves nearest neighbours better than the last: training for labels makes the last
    /// ones forget where things are.
    pub middle: bool,
    positions: Rule,
}

/// Where position embeddings of an input's size come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Resampled(Resampling),
    /// One way without registers, another with them.
    Registers {
        without: Resampling,
        with: Resampling,
    },
    /// Computed from the ground sample distance.
    Computed,
}

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// All families, by their names.
pub const FAMILIES: [Family; 6] = [
    Family {
        name: "dinov2",
        title: "DINOv2",
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        licence: "Apache-2.0",
        middle: false,
        positions: Rule::Registers { without: Resampling::Offset, with: Resampling::Antialiased },
    },
    Family {
        name: "dino",
        title: "DINO",
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        licence: "Apache-2.0",
        middle: false,
        positions: Rule::Resampled(Resampling::Offset),
    },
    Family {
        name: "ibot",
        title: "iBOT",
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        licence: "Apache-2.0",
        middle: false,
        positions: Rule::Resampled(Resampling::Offset),
    },
    Family {
        name: "mae",
        title: "MAE",
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        licence: "CC-BY-NC-4.0",
        middle: false,
        positions: Rule::Resampled(Resampling::Plain),
    },
    Family {
        name: "scale-mae",
        title: "Scale-MAE",
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        licence: "CC-BY-NC-4.0",
        middle: false,
        positions: Rule::Computed,
    },
    Family {
        name: "vit",
        title: "supervised ViT",
        mean: [0.5; 3],
        std: [0.5; 3],
        licence: "see where the weights come from",
        middle: true,
        positions: Rule::Resampled(Resampling::Antialiased),
    },
];

impl Family {
    pub fn named(name: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    /// Whether positions are computed, and those in the checkpoint not used.
    pub fn computes_positions(&self) -> bool {
        self.positions == Rule::Computed
    }

    /// How position embeddings are stretched over another grid.
    pub(super) fn resampling(&self, registers: usize) -> Resampling {
        match self.positions {
            Rule::Resampled(resampling) => resampling,
            Rule::Registers { without, .. } if registers == 0 => without,
            Rule::Registers { with, .. } => with,
            Rule::Computed => Resampling::Plain,
        }
    }
}

/// A family, and what shows it.
pub struct Recognised {
    pub family: &'static Family,
    pub because: String,
}

/// Tells the family from what else is in the file. What a person says goes first, unless the file shows that it cannot
/// be so.
pub fn recognise(weights: &Weights<'_>, said: Option<&'static Family>) -> Result<Recognised, CheckpointError> {
    let content = |problem: String| CheckpointError::Content { path: weights.checkpoint.path().to_owned(), problem };
    let shown = shown(weights);
    match (said, shown) {
        (Some(said), Some(shown)) if *said != *shown.family => {
            let (title, because, said) = (shown.family.title, shown.because, said.title);
            Err(content(format!("it is of the family {title}, for {because}, and not of {said} as was said")))
        }
        (Some(family), _) => Ok(Recognised { family, because: "as was said".into() }),
        (None, Some(shown)) => Ok(shown),
        (None, None) => match guessed(weights)? {
            Some(guessed) => Ok(guessed),
            None => {
                let problem = "nothing in it tells whether it is a supervised ViT, DINO or iBOT: say its family";
                Err(content(problem.into()))
            }
        },
    }
}

fn found(name: &str, because: String) -> Option<Recognised> {
    Some(Recognised { family: Family::named(name).expect("the table has it"), because })
}

/// What only one family has.
fn shown(weights: &Weights<'_>) -> Option<Recognised> {
    let any = |wanted: &[&str]| weights.checkpoint.names().find(|name| wanted.iter().any(|part| name.contains(part)));
    if let Some(name) = any(&["mask_token_decoder", "fcn_high.", "fcn_low.", "fpn."]) {
        return found("scale-mae", format!("it has `{name}`"));
    }
    if let Some(name) = any(&["decoder_embed", "decoder_pos_embed"]) {
        return found("mae", format!("it has `{name}`"));
    }
    if let Some(name) = any(&["masked_embed", "last_layer2"]) {
        return found("ibot", format!("it has `{name}`"));
    }
    if weights.has("register_tokens") {
        return found("dinov2", "it has register tokens".into());
    }
    if weights.has("blocks.0.ls1.gamma") && weights.has("mask_token") {
        return found("dinov2", "it has LayerScale and a mask token".into());
    }
    None
}

/// What one family has for the most part.
fn guessed(weights: &Weights<'_>) -> Result<Option<Recognised>, CheckpointError> {
    let checkpoint = weights.checkpoint;
    let any = |wanted: &[&str]| checkpoint.names().find(|name| wanted.iter().any(|part| name.contains(part)));
    if let Some(name) = any(&[".gamma_1"]) {
        return Ok(found("ibot", format!("it has `{name}`")));
    }
    let patch = weights.shape_if("patch_embed.proj.weight").and_then(|shape| shape.last().copied());
    if weights.has("blocks.0.ls1.gamma") && patch == Some(14) {
        return Ok(found("dinov2", "it has LayerScale and patches of 14 pixels".into()));
    }
    if let Some(name) = any(&["dino_loss", "last_layer.", "head.mlp."]) {
        return Ok(found("dino", format!("it has `{name}`")));
    }
    if Positions::are_computed(&weights.read("pos_embed")?, weights.shape_if("pos_embed")) {
        return Ok(found("mae", "its position embeddings are fixed sines and cosines".into()));
    }
    let heads = ["head.weight", "classifier.weight", "head.bias"].map(|head| format!("{}{head}", weights.prefix));
    if let Some(head) = heads.iter().chain(&["classifier.weight".to_owned()]).find(|n| checkpoint.shape(n).is_some()) {
        return Ok(found("vit", format!("it has a classifier, `{head}`")));
    }
    match weights.naming {
        Naming::Timm => Ok(found("dino", "it is a plain network without a head, as DINO's are".into())),
        Naming::Transformers => Ok(None),
    }
}
