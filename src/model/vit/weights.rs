//! What the files call the tensors.

use std::borrow::Cow;

use crate::model::checkpoint::{Checkpoint, CheckpointError};

/// What the patch embedding is called: by timm and by the authors' own code, and by Hugging Face's transformers.
const PATCH_EMBEDDINGS: [(&str, Naming); 2] = [
    ("patch_embed.proj.weight", Naming::Timm),
    ("embeddings.patch_embeddings.projection.weight", Naming::Transformers),
];

/// Where a training checkpoint holds a student and a teacher, the teacher is the model.
const TEACHER: &str = "teacher";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    Timm,
    Transformers,
}

/// The tensors of one network in a checkpoint, by the names that timm has for them.
#[derive(Debug)]
pub struct Weights<'a> {
    pub checkpoint: &'a Checkpoint,
    /// What stands before every name of the network.
    pub prefix: String,
    pub naming: Naming,
}

impl<'a> Weights<'a> {
    /// Finds the network by its patch embedding.
    pub fn find(checkpoint: &'a Checkpoint, prefix: Option<&str>) -> Result<Weights<'a>, String> {
        let mut found: Vec<(String, Naming)> = Vec::new();
        for name in checkpoint.names() {
            for (patch_embedding, naming) in PATCH_EMBEDDINGS {
                match name.strip_suffix(patch_embedding) {
                    Some(before) if before.is_empty() || before.ends_with('.') => found.push((before.into(), naming)),
                    _ => {}
                }
            }
        }
        if let Some(prefix) = prefix {
            let prefix = prefix.trim_end_matches('.');
            found.retain(|(before, _)| before.trim_end_matches('.') == prefix);
        } else if found.len() > 1 && found.iter().filter(|(before, _)| before.starts_with(TEACHER)).count() == 1 {
            found.retain(|(before, _)| before.starts_with(TEACHER));
        }
        match &found[..] {
            [(prefix, naming)] => Ok(Weights { checkpoint, prefix: prefix.clone(), naming: *naming }),
            [] => {
                let count = checkpoint.names().count();
                let first: Vec<String> = checkpoint.names().take(3).map(|name| format!("`{name}`")).collect();
                let first = match first.len() {
                    0 => "no tensors at all".into(),
                    _ => format!("{count} tensors such as {}", first.join(", ")),
                };
                Err(format!("it holds no vision transformer: {first}, but no patch embedding"))
            }
            several => {
                let prefixes: Vec<String> = several.iter().map(|(before, _)| format!("`{before}`")).collect();
                Err(format!("it holds several networks; choose one by its prefix: {}", prefixes.join(", ")))
            }
        }
    }

    pub fn has(&self, part: &str) -> bool {
        self.names_of(part).is_some()
    }

    pub fn shape_if(&self, part: &str) -> Option<Vec<usize>> {
        self.shape(part).ok()
    }

    /// The shape of a tensor; of several that stand for one, with their first sides added up.
    pub fn shape(&self, part: &str) -> Result<Vec<usize>, String> {
        let names = self.names_of(part).ok_or_else(|| self.lacks(part))?;
        let mut shapes = names.iter().filter_map(|name| self.checkpoint.shape(name));
        let mut shape = shapes.next().unwrap_or_default().to_vec();
        for other in shapes {
            match (shape.first_mut(), other.first()) {
                (Some(first), Some(more)) => *first = first.saturating_add(*more),
                _ => return Err(format!("the tensors that make `{part}` have no sides")),
            }
        }
        // The mask's token has one side more in some files; the others' are as timm has them.
        Ok(shape)
    }

    /// The numbers of a tensor; of several that stand for one, one behind the other.
    pub fn read(&self, part: &str) -> Result<Vec<f32>, CheckpointError> {
        let lacks = || CheckpointError::Content { path: self.checkpoint.path().to_owned(), problem: self.lacks(part) };
        let names = self.names_of(part).ok_or_else(lacks)?;
        let mut numbers = Vec::new();
        for name in names {
            numbers.extend(self.checkpoint.floats(&name)?);
        }
        Ok(numbers)
    }

    fn lacks(&self, part: &str) -> String {
        let name = self.candidates(part).swap_remove(0).join("`, `");
        format!("it has no tensor `{name}`, which its network needs")
    }

    /// The tensors that make `part`, where they are all there.
    fn names_of(&self, part: &str) -> Option<Vec<String>> {
        self.candidates(part).into_iter().find(|names| names.iter().all(|name| self.checkpoint.shape(name).is_some()))
    }

    /// What `part` may be called in the file, each the one or more tensors that make it.
    fn candidates(&self, part: &str) -> Vec<Vec<String>> {
        let names = match self.naming {
            Naming::Timm => timm(part),
            Naming::Transformers => transformers(part),
        };
        let full = |name: Cow<'_, str>| format!("{}{name}", self.prefix);
        names.into_iter().map(|names| names.into_iter().map(full).collect()).collect()
    }
}

/// timm's own names, and those that authors have for what timm calls otherwise.
fn timm(part: &str) -> Vec<Vec<Cow<'_, str>>> {
    let renamed = |from: &str, to: &str| vec![Cow::Owned(part.replace(from, to))];
    let mut names = vec![vec![Cow::Borrowed(part)]];
    if part == "register_tokens" {
        names.push(vec!["reg_token".into()]);
    }
    if part.ends_with("ls1.gamma") {
        names.push(renamed("ls1.gamma", "gamma_1"));
    }
    if part.ends_with("ls2.gamma") {
        names.push(renamed("ls2.gamma", "gamma_2"));
    }
    names
}

fn transformers(part: &str) -> Vec<Vec<Cow<'_, str>>> {
    let whole = match part {
        "cls_token" => "embeddings.cls_token",
        "mask_token" => "embeddings.mask_token",
        "register_tokens" => "embeddings.register_tokens",
        "pos_embed" => "embeddings.position_embeddings",
        "patch_embed.proj.weight" => "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias" => "embeddings.patch_embeddings.projection.bias",
        "norm.weight" => "layernorm.weight",
        "norm.bias" => "layernorm.bias",
        _ => "",
    };
    if !whole.is_empty() {
        return vec![vec![whole.into()]];
    }
    let Some((block, inner)) = part.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) else {
        return vec![vec![Cow::Borrowed(part)]];
    };
    let (layer, leaf) = inner.rsplit_once('.').unwrap_or((inner, ""));
    let alternatives: &[&[&str]] = match layer {
        "norm1" => &[&["norm1"], &["layernorm_before"]],
        "norm2" => &[&["norm2"], &["layernorm_after"]],
        "attn.qkv" => &[&["attention.attention.query", "attention.attention.key", "attention.attention.value"]],
        "attn.proj" => &[&["attention.output.dense"]],
        "mlp.fc1" => &[&["mlp.fc1"], &["intermediate.dense"]],
        "mlp.fc2" => &[&["mlp.fc2"], &["output.dense"]],
        "mlp.w12" => &[&["mlp.weights_in"]],
        "mlp.w3" => &[&["mlp.weights_out"]],
        "ls1" => &[&["layer_scale1"]],
        "ls2" => &[&["layer_scale2"]],
        _ => &[],
    };
    let leaf = if leaf == "gamma" { "lambda1" } else { leaf };
    let full = |layer: &&str| Cow::Owned(format!("encoder.layer.{block}.{layer}.{leaf}"));
    let names: Vec<Vec<Cow<'_, str>>> = alternatives.iter().map(|layers| layers.iter().map(full).collect()).collect();
    if names.is_empty() { vec![vec![Cow::Borrowed(part)]] } else { names }
}
