//! What a model is: a TOML file beside its ONNX file.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::suggest::suggestion;

/// A model, as its manifest describes it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Names the model in reports and in the log; 1 to 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What kind of model it is, such as `dinov2` or `mae`; 1 to 64 letters, digits, `-`, `_` and `.`.
    pub family: String,
    /// Name of the ONNX file, in the manifest's own folder.
    pub onnx: String,
    /// Digest of the ONNX file, 64 hexadecimal digits.
    pub sha256: String,
    /// Side of a patch in pixels, 1 to 64.
    pub patch: usize,
    /// Input sizes, [height, width] in pixels, each side a multiple of the patch; the default first.
    pub input_sizes: Vec<[usize; 2]>,
    /// Subtracted from red, green and blue in [0, 1]; -10 to 10.
    pub mean: [f32; 3],
    /// What each is then divided by; 0.001 to 10.
    pub std: [f32; 3],
    /// Tokens before those of the patches (class, registers), 0 to 64; they are discarded.
    pub prefix_tokens: usize,
    /// Name of the graph's output: (1, prefix_tokens + patches, dimensions).
    pub output: String,
    /// How the graph computes: it sets how closely the probe must be met.
    pub precision: Precision,
    /// Dimensions of the output that are left out, in rising order.
    pub dropped_dimensions: Vec<usize>,
    /// Under which terms the weights may be used, an SPDX expression or a sentence.
    pub licence: String,
    /// Where a model too large for one file has its weights; an ONNX file cannot hold more than 2 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<DataFile>,
    /// What is done with the dimensions that are left, before embeddings are normalised: a safetensors file with `mean`
    /// (dimensions), which is taken out, and `scale` (dimensions) or `projection` (fewer, dimensions).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<DataFile>,
    pub probe: Probe,
}

/// Another file of the model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Name of the file in the manifest's own folder.
    pub file: String,
    /// Digest of the file, 64 hexadecimal digits.
    pub sha256: String,
}

/// Features of the fixed picture [`probe_image`](crate::types::probe_image), made when the model was made, at each of
/// the input sizes: a runtime prepares a graph anew for every size, and may go wrong at one alone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Name of the file in the manifest's own folder; its layout is that of
    /// [`ProbeFeatures`](crate::types::ProbeFeatures): (input sizes, patches, dimensions of the output), 16-bit
    /// little-endian; dimensions that are dropped are in it, and nothing is transformed.
    pub file: String,
    /// Digest of the file, 64 hexadecimal digits.
    pub sha256: String,
    /// Patches in the file for each input size, spread evenly over its grid.
    pub patches: usize,
}

/// How a graph computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// In 32-bit floats.
    Fp32,
    /// Its products in 8-bit integers.
    Int8,
}

impl Precision {
    /// The least mean cosine between the features of the probe and those of the running graph.
    pub fn least_cosine(self) -> f32 {
        match self {
            Precision::Fp32 => 0.999,
            Precision::Int8 => 0.98,
        }
    }
}

/// The largest side of an input, in pixels.
const MAX_SIDE: usize = 8_192;

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Everything that is wrong with it, each as `line: key: problem`; in a file that is not TOML, the first place
    /// that is not.
    pub fn parse(text: &str) -> Result<Manifest, Vec<String>> {
        let table = text.parse::<Table>().map_err(|e| vec![at(text, e.span(), "", e.message())])?;
        let mut reader = Reader { problems: Vec::new(), refused: BTreeSet::new() };
        let manifest = reader.manifest(table);
        if reader.problems.is_empty() {
            return Ok(manifest);
        }
        let mut placed: Vec<_> = reader.problems.iter().map(|(key, what)| (span_of(text, key), key, what)).collect();
        // In the order of the file; what is missing has no place in it.
        placed.sort_by_key(|(span, ..)| span.as_ref().map_or(usize::MAX, |span| span.start));
        Err(placed.into_iter().map(|(span, key, what)| at(text, span, key, what)).collect())
    }

    /// As a file holds it. `by` is the command that wrote it.
    pub fn to_text(&self, by: &str) -> String {
        let text = toml::to_string(self).expect("a manifest's values are all TOML's");
        format!("# Written by `{by}`.\n{text}")
    }

    /// One that is valid, to put in the place of what is not.
    fn plain() -> Manifest {
        Manifest {
            name: "plain".into(),
            family: "plain".into(),
            onnx: "plain.onnx".into(),
            sha256: "0".repeat(64),
            patch: 16,
            input_sizes: vec![[16, 16]],
            mean: [0.0; 3],
            std: [1.0; 3],
            prefix_tokens: 0,
            output: "plain".into(),
            precision: Precision::Fp32,
            dropped_dimensions: Vec::new(),
            licence: "plain".into(),
            weights: Some(DataFile { file: "plain.weights".into(), sha256: "0".repeat(64) }),
            transform: Some(DataFile { file: "plain.transform".into(), sha256: "0".repeat(64) }),
            probe: Probe { file: "plain.probe".into(), sha256: "0".repeat(64), patches: 1 },
        }
    }

    /// Keys and what is wrong with their values.
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, key, problem: String| {
            if !holds {
                problems.push((key, problem));
            }
        };
        for (key, value) in [("name", &self.name), ("family", &self.family)] {
            require(is_name(value), key, "must be 1 to 64 letters, digits, `-`, `_` and `.`".into());
        }
        let mut files = vec![("onnx", &self.onnx), ("probe.file", &self.probe.file)];
        let mut digests = vec![("sha256", &self.sha256), ("probe.sha256", &self.probe.sha256)];
        if let Some(DataFile { file, sha256 }) = &self.weights {
            files.push(("weights.file", file));
            digests.push(("weights.sha256", sha256));
        }
        if let Some(DataFile { file, sha256 }) = &self.transform {
            files.push(("transform.file", file));
            digests.push(("transform.sha256", sha256));
        }
        for (key, value) in files {
            require(is_file_name(value), key, format!("`{value}` must be a file's name without a folder"));
        }
        for (key, value) in digests {
            let hex = value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit());
            require(hex, key, "must be 64 hexadecimal digits".into());
        }
        require((1..=64).contains(&self.patch), "patch", "must be 1 to 64".into());
        require(!self.input_sizes.is_empty(), "input_sizes", "must hold one size or more".into());
        for [height, width] in &self.input_sizes {
            let fits = |side: usize| (1..=MAX_SIDE).contains(&side) && side.is_multiple_of(self.patch.max(1));
            let rule = format!("sides must be multiples of the patch, {}, up to {MAX_SIDE}", self.patch);
            require(fits(*height) && fits(*width), "input_sizes", format!("[{height}, {width}]: {rule}"));
        }
        require(self.mean.iter().all(|v| v.abs() <= 10.0), "mean", "must be -10 to 10".into());
        require(self.std.iter().all(|v| (0.001..=10.0).contains(v)), "std", "must be 0.001 to 10".into());
        require(self.prefix_tokens <= 64, "prefix_tokens", "must be 0 to 64".into());
        require(!self.output.is_empty(), "output", "must name an output".into());
        let rising = self.dropped_dimensions.windows(2).all(|pair| pair[0] < pair[1]);
        require(rising, "dropped_dimensions", "must rise, and name each dimension once".into());
        require(!self.licence.trim().is_empty(), "licence", "must say under which terms the weights stand".into());
        let patches = |[height, width]: &[usize; 2]| height.saturating_mul(*width) / self.patch.max(1).pow(2);
        let patches = self.input_sizes.iter().map(patches).min().unwrap_or(0);
        let range = format!("must be 1 to the smallest input size's number of patches, {patches}");
        require((1..=patches).contains(&self.probe.patches), "probe.patches", range);
        problems
    }
}

/// Keys whose values are checked together.
const GRID: [&str; 3] = ["patch", "input_sizes", "probe.patches"];

/// Keys that a manifest may do without.
const OPTIONAL: [&str; 2] = ["weights", "transform"];

/// Reads a table key by key, so that one mistake does not hide the next.
struct Reader {
    /// Keys, `probe.patches` being `patches` in the table `probe`, and what is wrong with them.
    problems: Vec<(String, String)>,
    /// Keys that hold the values of [`Manifest::plain`] by now.
    refused: BTreeSet<String>,
}

impl Reader {
    fn manifest(&mut self, mut table: Table) -> Manifest {
        let plain = Manifest::plain();
        let known = Table::try_from(&plain).expect("a manifest's values are all TOML's");
        self.keys(&mut table, &known, "");
        let manifest = loop {
            let error = match serde_path_to_error::deserialize::<_, Manifest>(Value::Table(table.clone())) {
                Ok(manifest) => break manifest,
                Err(error) => error,
            };
            let path = error.path().to_string();
            // `input_sizes[1]` is a mistake in the value of `input_sizes`.
            let key = path.split('[').next().unwrap_or_default().to_owned();
            self.problems.push((key.clone(), error.inner().message().to_owned()));
            let (slot, value) = match key.split_once('.') {
                None => (table.get_mut(&key), known.get(&key)),
                Some((outer, inner)) => {
                    (table.get_mut(outer).and_then(|t| t.get_mut(inner)), known.get(outer).and_then(|t| t.get(inner)))
                }
            };
            match (slot, value) {
                (Some(slot), Some(value)) if self.refused.insert(key) => *slot = value.clone(),
                _ => break plain,
            }
        };
        let grid_refused = GRID.iter().any(|key| self.refused.contains(*key));
        for (key, problem) in manifest.problems() {
            if !(self.refused.contains(key) || grid_refused && GRID.contains(&key)) {
                self.problems.push((key.into(), problem));
            }
        }
        manifest
    }

    /// Takes out the keys that are not known, and puts in those that are missing.
    fn keys(&mut self, table: &mut Table, known: &Table, prefix: &str) {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        for (name, _) in table.iter().filter(|(name, _)| !known.contains_key(*name)) {
            self.problems.push((format!("{prefix}{name}"), format!("unknown key{}", suggestion(name, &names))));
        }
        table.retain(|name, _| known.contains_key(name));
        for (name, plain) in known {
            if OPTIONAL.contains(&&name[..]) && !table.contains_key(name) {
                continue;
            }
            let key = format!("{prefix}{name}");
            match (table.get_mut(name), plain) {
                (Some(Value::Table(table)), Value::Table(known)) => self.keys(table, known, &format!("{key}.")),
                (Some(_), Value::String(_) | Value::Integer(_) | Value::Array(_)) => {}
                (found, _) => {
                    let problem = if found.is_some() { "must be a table" } else { "is missing" };
                    self.problems.push((key.clone(), problem.into()));
                    if let Value::Table(inner) = plain {
                        self.refused.extend(inner.keys().map(|inner| format!("{key}.{inner}")));
                    }
                    self.refused.insert(key);
                    table.insert(name.clone(), plain.clone());
                }
            }
        }
    }
}

/// Whether a model or a family can be called so: 1 to 64 letters, digits, `-`, `_` and `.`.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Whether `name` is a file in the folder itself: no folder before it, nor a way out.
fn is_file_name(name: &str) -> bool {
    let mut parts = std::path::Path::new(name).components();
    let normal = matches!(parts.next(), Some(std::path::Component::Normal(part)) if part == name);
    normal && parts.next().is_none() && !name.contains(['\\', '\0'])
}

/// `line: key: problem`, of what is known.
fn at(text: &str, span: Option<Range<usize>>, key: &str, problem: &str) -> String {
    let line = span.map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
    format!("{line}{key}{}", problem.trim().replace('\n', " "))
}

/// Where the value of a key stands, `probe.patches` being `patches` in the table `probe`.
fn span_of(text: &str, key: &str) -> Option<Range<usize>> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let mut table = table.get_ref();
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        let value = table.get(part)?;
        if parts.peek().is_none() {
            return Some(value.span());
        }
        table = value.get_ref().as_table()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"name = "small"
family = "vit"
onnx = "small.onnx"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
patch = 16
input_sizes = [[480, 640], [336, 448]]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
prefix_tokens = 1
output = "last_hidden_state"
precision = "fp32"
dropped_dimensions = []
licence = "MIT"

[probe]
file = "small.probe"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
patches = 64
"#;

    #[test]
    fn a_good_manifest_is_read() {
        let manifest = Manifest::parse(GOOD).unwrap();
        assert_eq!(manifest.input_sizes, [[480, 640], [336, 448]]);
        assert_eq!(manifest.precision.least_cosine(), 0.999);
        assert_eq!(manifest.probe.patches, 64);
    }

    #[test]
    fn a_bad_manifest_is_refused_with_line_and_key() {
        struct Case {
            from: &'static str,
            to: &'static str,
            expected: &'static [&'static str],
        }
        let cases = [
            Case { from: "patch = 16", to: "patch = \"x\"", expected: &["line 5: patch: invalid type"] },
            Case {
                from: "patch = 16",
                to: "patch = 16\npatches = 2",
                expected: &["line 6: patches: unknown key; did you mean `patch`?"],
            },
            Case { from: "patch = 16", to: "patch = 0", expected: &["line 5: patch: must be 1 to 64"] },
            Case { from: "patch = 16", to: "patch = 7", expected: &["line 6: input_sizes: [480, 640]"] },
            Case { from: "patch = 16\n", to: "", expected: &["patch: is missing"] },
            Case { from: "patch = 16", to: "patch = = 16", expected: &["line 5: "] },
            Case { from: "\"small.onnx\"", to: "\"../small.onnx\"", expected: &["line 3: onnx: `../small.onnx`"] },
            Case { from: "\"small.onnx\"", to: "\"/small.onnx\"", expected: &["line 3: onnx: "] },
            Case { from: "\"small.onnx\"", to: "\"a/small.onnx\"", expected: &["line 3: onnx: "] },
            Case { from: "\"small.onnx\"", to: "\"..\"", expected: &["line 3: onnx: "] },
            Case { from: "\"small.probe\"", to: "\"./small.probe\"", expected: &["line 16: probe.file: "] },
            Case { from: "std = [0.5", to: "std = [0.0", expected: &["line 8: std: must be"] },
            Case { from: "std = [0.5", to: "std = [nan", expected: &["line 8: std: must be"] },
            Case { from: "mean = [0.5", to: "mean = [inf", expected: &["line 7: mean: must be"] },
            Case { from: "\"fp32\"", to: "\"fp16\"", expected: &["line 11: precision: unknown variant `fp16`"] },
            Case { from: "= []", to: "= [3, 3]", expected: &["line 12: dropped_dimensions: must rise"] },
            Case { from: "patches = 64", to: "patches = 0", expected: &["line 18: probe.patches: "] },
            Case { from: "patches = 64", to: "patches = 589", expected: &["line 18: probe.patches: ", "588"] },
            Case {
                from: "sha256 = \"0",
                to: "sha256 = \"g",
                expected: &["line 4: sha256: ", "line 17: probe.sha256: "],
            },
        ];
        for Case { from, to, expected } in cases {
            assert!(GOOD.contains(from), "{from}");
            let problems = Manifest::parse(&GOOD.replace(from, to)).unwrap_err().join("\n");
            for part in expected {
                assert!(problems.contains(part), "{from} -> {to}: {problems}");
            }
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let text =
            GOOD.replace("patch = 16", "patch = 900").replace("\"MIT\"", "\" \"").replace("\"vit\"", "\"v i t\"");
        let problems = Manifest::parse(&text).unwrap_err();
        for key in ["family", "patch", "input_sizes", "licence", "probe.patches"] {
            assert!(problems.iter().any(|p| p.contains(&format!(" {key}: "))), "{key} is not in {problems:?}");
        }
        // A wrong type, an unknown key and a missing one hide nothing either, and nothing is said that follows.
        let text = GOOD
            .replace("patch = 16", "patch = \"16\"\nprefix_token = 1")
            .replace("prefix_tokens = 1\n", "")
            .replace("mean = [0.5, 0.5, 0.5]", "mean = 0.5")
            .replace("\"MIT\"", "\"\"")
            .replace("[probe]", "[prob]");
        let problems = Manifest::parse(&text).unwrap_err();
        let starts = [
            "line 5: patch: invalid type",
            "line 6: prefix_token: unknown key; did you mean `prefix_tokens`?",
            "line 8: mean: invalid type",
            "line 13: licence: must say",
            "line 15: prob: unknown key; did you mean `probe`?",
            "prefix_tokens: is missing",
            "probe: is missing",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:#?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{start}: {problems:#?}");
        }
    }
}
