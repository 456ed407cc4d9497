//! The checkpoints that their authors publish: where they are, and under which terms.

use serde::{Deserialize, Serialize};

/// One file each, in the order in which they are told.
const ENTRIES: [&str; 22] = [
    include_str!("../../models/catalogue/dinov2-vitb14.toml"),
    include_str!("../../models/catalogue/dinov2-vitb14-reg.toml"),
    include_str!("../../models/catalogue/dinov2-vitg14.toml"),
    include_str!("../../models/catalogue/dinov2-vitg14-reg.toml"),
    include_str!("../../models/catalogue/dinov2-vitl14.toml"),
    include_str!("../../models/catalogue/dinov2-vitl14-reg.toml"),
    include_str!("../../models/catalogue/dinov2-vits14.toml"),
    include_str!("../../models/catalogue/dinov2-vits14-reg.toml"),
    include_str!("../../models/catalogue/dino-vitb16.toml"),
    include_str!("../../models/catalogue/dino-vitb8.toml"),
    include_str!("../../models/catalogue/dino-vits16.toml"),
    include_str!("../../models/catalogue/dino-vits8.toml"),
    include_str!("../../models/catalogue/ibot-vitb16.toml"),
    include_str!("../../models/catalogue/ibot-vitl16.toml"),
    include_str!("../../models/catalogue/ibot-vits16.toml"),
    include_str!("../../models/catalogue/mae-vitb16.toml"),
    include_str!("../../models/catalogue/mae-vith14.toml"),
    include_str!("../../models/catalogue/mae-vitl16.toml"),
    include_str!("../../models/catalogue/scale-mae-vitl16.toml"),
    include_str!("../../models/catalogue/vit-b16.toml"),
    include_str!("../../models/catalogue/vit-s16.toml"),
    include_str!("../../models/catalogue/vit-ti16.toml"),
];

/// A checkpoint that can be fetched.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What the model is called that is made of it.
    pub name: String,
    /// For people.
    pub title: String,
    pub family: String,
    /// Over HTTPS.
    pub url: String,
    /// 64 hexadecimal digits; absent where the authors publish none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Length of the file, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// [height, width] in pixels, the default first.
    pub input_sizes: Vec<[usize; 2]>,
    /// The terms of the weights.
    pub licence: String,
}

/// All that there are.
pub fn entries() -> Vec<Entry> {
    ENTRIES.iter().map(|text| toml::from_str(text).expect("a test reads all of them")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vit::Family;
    use std::collections::BTreeSet;

    #[test]
    fn every_entry_is_one_that_can_be_made() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/catalogue");
        let entries = entries();
        let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, files.iter().map(String::as_str).collect());
        for entry in entries {
            assert!(Family::named(&entry.family).is_some(), "{}", entry.name);
            assert!(entry.url.starts_with("https://"), "{}", entry.name);
            let digits = |digest: &String| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(entry.sha256.as_ref().is_none_or(digits), "{}", entry.name);
            let patch = if entry.name.ends_with("14") || entry.name.ends_with("14-reg") { 14 } else { 16 };
            assert!(entry.input_sizes.as_flattened().iter().all(|side| side % patch == 0), "{}", entry.name);
        }
    }
}
