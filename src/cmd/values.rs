//! Values on the command line, and what is said of those that make no sense.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;

use super::exit::{Kind, failure};
use crate::config::Config;
use crate::picture;
use crate::propagate::PropagateConfig;
use crate::types::{Mask, Seed};

/// A box: X,Y,WIDTH,HEIGHT in pixels.
pub fn parse_box(text: &str) -> Result<[f32; 4], String> {
    let values: [f32; 4] = numbers(text, "a box is X,Y,WIDTH,HEIGHT in pixels")?;
    match values {
        [_, _, w, h] if w <= 0.0 || h <= 0.0 => Err("a box is wider and higher than 0 pixels".into()),
        values => Ok(values),
    }
}

/// A point: X,Y in pixels.
pub fn parse_point(text: &str) -> Result<[f32; 2], String> {
    numbers(text, "a point is X,Y in pixels")
}

/// A number for each of red, green and blue.
pub fn parse_channels(text: &str) -> Result<[f32; 3], String> {
    numbers(text, "three numbers are needed, for red, green and blue")
}

/// An input size, HEIGHTxWIDTH in pixels: [height, width].
pub fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let side = |side: &str| side.parse::<usize>().ok().filter(|side| (1..=8_192).contains(side));
    let sides = text.split_once('x').and_then(|(height, width)| Some([side(height)?, side(width)?]));
    sides.ok_or_else(|| "an input size is HEIGHTxWIDTH in pixels, each 1 to 8192".into())
}

fn numbers<const N: usize>(text: &str, what: &str) -> Result<[f32; N], String> {
    let values = text.split(',').map(|part| {
        let value = part.trim().parse::<f32>().ok().filter(|value| value.is_finite());
        value.ok_or_else(|| format!("{what}; {:?} is no number", part.trim()))
    });
    let values = values.collect::<Result<Vec<f32>, String>>()?;
    let count = values.len();
    let s = if count == 1 { "" } else { "s" };
    values.try_into().map_err(|_| format!("{what}; got {count} number{s}"))
}

/// The constants of a rule of propagation, by their name.
///
/// # Errors
/// When there is none of that name.
pub fn preset(config: &Config, name: &str) -> anyhow::Result<PropagateConfig> {
    config.presets.get(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = config.presets.keys().map(String::as_str).collect();
        failure(Kind::Usage, format!("there is no preset {name:?}; there are {}", names.join(", ")))
    })
}

/// An object, pointed at on the command line.
#[derive(Clone, Debug, PartialEq)]
pub enum Pointed {
    Box([f32; 4]),
    Point([f32; 2]),
    /// A PNG picture of the frame's size: what is black is background, everything else is the object.
    Mask(PathBuf),
}

impl Pointed {
    /// Reads the mask's file, where it is one.
    ///
    /// # Errors
    /// When the file cannot be read, is no PNG, or shows no object.
    pub fn seed(&self) -> anyhow::Result<Seed> {
        Ok(match self {
            Pointed::Box(bounds) => Seed::Box(*bounds),
            Pointed::Point(point) => Seed::Point(*point),
            Pointed::Mask(file) => Seed::Mask(read_mask(file)?),
        })
    }
}

/// The pixels of a PNG picture that are not black.
fn read_mask(file: &Path) -> anyhow::Result<Mask> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let mut rgb = Vec::new();
    let (width, height) = picture::decode_png(&bytes, &mut rgb)
        .map_err(|error| failure(Kind::Data, format!("{}: {error}", file.display())))?;
    let mask = Mask::from_fn(width, height, |x, y| rgb[(y * width + x) * 3..][..3] != [0, 0, 0]);
    if mask.is_empty() {
        let message = format!("{}: every pixel is black, so it shows no object", file.display());
        return Err(failure(Kind::Data, message));
    }
    Ok(mask)
}

/// An object of a folder of pictures, to be tagged in one of them: `[NAME=]WHAT[@FRAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TagAt {
    pub name: Option<String>,
    pub what: Pointed,
    /// Counts from 0.
    pub frame: u64,
}

impl FromStr for TagAt {
    type Err = String;

    fn from_str(text: &str) -> Result<TagAt, String> {
        let (name, rest) = match text.split_once('=') {
            Some(("", _)) => return Err("the name before `=` is empty".into()),
            Some((name, rest)) => (Some(name.to_owned()), rest),
            None => (None, text),
        };
        // A file may have an `@` in its name; only a number after the last one is a frame.
        let at = rest.rsplit_once('@').and_then(|(what, frame)| Some((what, frame.parse().ok()?)));
        let (what, frame) = at.unwrap_or((rest, 0));
        let what = if Path::new(what).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
            Pointed::Mask(what.into())
        } else {
            match what.split(',').count() {
                2 => Pointed::Point(parse_point(what)?),
                4 => Pointed::Box(parse_box(what)?),
                _ => {
                    let kinds = "a box X,Y,WIDTH,HEIGHT, a point X,Y or a mask FILE.png";
                    return Err(format!("an object is {kinds}; {what:?} is none of them"));
                }
            }
        };
        Ok(TagAt { name, what, frame })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_and_points_are_read_or_explained() {
        assert_eq!(parse_box("10,20, 30.5,40"), Ok([10.0, 20.0, 30.5, 40.0]));
        assert_eq!(parse_point("-1,2"), Ok([-1.0, 2.0]));
        for (text, problem) in [
            ("10,20,30", "a box is X,Y,WIDTH,HEIGHT in pixels; got 3 numbers"),
            ("7", "a box is X,Y,WIDTH,HEIGHT in pixels; got 1 number"),
            ("10,20,30,4O", "a box is X,Y,WIDTH,HEIGHT in pixels; \"4O\" is no number"),
            ("1,2,inf,4", "a box is X,Y,WIDTH,HEIGHT in pixels; \"inf\" is no number"),
            ("1,2,3,-4", "a box is wider and higher than 0 pixels"),
            ("", "a box is X,Y,WIDTH,HEIGHT in pixels; \"\" is no number"),
        ] {
            assert_eq!(parse_box(text), Err(problem.to_owned()), "{text}");
        }
    }

    #[test]
    fn tags_of_a_replay_are_read_or_explained() {
        let tag = |name: Option<&str>, what, frame| Ok(TagAt { name: name.map(str::to_owned), what, frame });
        for (text, expected) in [
            ("1,2,3,4", tag(None, Pointed::Box([1.0, 2.0, 3.0, 4.0]), 0)),
            ("cup=1,2", tag(Some("cup"), Pointed::Point([1.0, 2.0]), 0)),
            ("cup=1,2@12", tag(Some("cup"), Pointed::Point([1.0, 2.0]), 12)),
            ("cup=a@b.PNG@3", tag(Some("cup"), Pointed::Mask("a@b.PNG".into()), 3)),
            ("=1,2", Err("the name before `=` is empty".into())),
            (
                "1,2,3",
                Err("an object is a box X,Y,WIDTH,HEIGHT, a point X,Y or a mask FILE.png; \"1,2,3\" is none of them"
                    .into()),
            ),
        ] {
            assert_eq!(text.parse::<TagAt>(), expected, "{text}");
        }
    }

    #[test]
    fn a_mask_is_what_is_not_black() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mask.png");
        let write = |rgb: &[u8]| std::fs::write(&file, picture::encode_png(rgb, 2, 1).unwrap()).unwrap();
        write(&[0, 0, 0, 0, 0, 1]);
        let expected = Mask::from_fn(2, 1, |x, _| x == 1);
        assert_eq!(Pointed::Mask(file.clone()).seed().unwrap(), Seed::Mask(expected));
        write(&[0; 6]);
        assert!(Pointed::Mask(file.clone()).seed().unwrap_err().to_string().contains("shows no object"));
        std::fs::write(&file, "no picture").unwrap();
        assert!(Pointed::Mask(file).seed().is_err());
    }
}
