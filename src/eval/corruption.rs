//! Videos made worse, by kinds and levels that are compared: which frames a tracker sees, and what of them.

use std::f32::consts::TAU;
use std::fmt;

use super::degrade::Degradation;

/// What is done to a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    pub kind: Kind,
    pub level: Level,
}

/// What is done to a video, without how much of it. `Kind::row` says it in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Blur,
    Noise,
    Jpeg,
    Brightness,
    Rotation,
    Drop,
    Burst,
    Black,
    Torn,
    Repeated,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    Mild,
    #[default]
    Moderate,
    Strong,
}

/// What a tracker is given for a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// The frame whose picture it is.
    pub of: usize,
    pub degradation: Option<Degradation>,
    /// Whether the objects are to be found where the annotation of this frame has them.
    pub scored: bool,
}

/// How often a single frame is spoilt: one of so many.
const SINGLE: [f32; 3] = [40.0, 20.0, 10.0];
/// Frames of which some are dropped, as evenly as it goes.
const DROP_OF: usize = 4;
/// Frames of which the last are missing.
const BURST_OF: usize = 30;
/// How far the lower half of a torn frame is shifted, of the width.
const TORN_SHIFT: f32 = 1.0 / 3.0;

impl Corruption {
    /// Reads a kind, `all` for each of them, and a level after `=` where it is not the moderate one: `blur`, `all=strong`.
    ///
    /// # Errors
    /// A sentence that says what can be given.
    pub fn parse(text: &str) -> Result<Vec<Corruption>, String> {
        let (name, level) = text.split_once('=').unwrap_or((text, Level::default().name()));
        let level = Level::ALL.into_iter().find(|known| known.name() == level).ok_or_else(|| {
            format!("there is no level {level:?}; there are {}", Level::ALL.map(Level::name).join(", "))
        })?;
        let named = |kind: &Kind| name == "all" || kind.row().0 == name;
        let found: Vec<Corruption> =
            Kind::ALL.into_iter().filter(named).map(|kind| Corruption { kind, level }).collect();
        if found.is_empty() {
            let names = Kind::ALL.map(|kind| kind.row().0).join(", ");
            return Err(format!("there is no kind {name:?}; there are {names}, and all of them as `all`"));
        }
        Ok(found)
    }

    /// What is shown for frame `index` of `frames`; `None` where it is missing. A video's first frame is never missing, nor
    /// another picture.
    pub fn shown(self, index: usize, frames: usize) -> Option<Shown> {
        let strength = self.kind.row().1[self.level as usize];
        let count = strength as usize;
        let whole = Shown { of: index, degradation: None, scored: true };
        let made_worse = |degradation| Some(Shown { degradation: Some(degradation), ..whole });
        let is_spoilt = || index % count == count / 2;
        match self.kind {
            Kind::Blur => made_worse(Degradation::Blur(strength)),
            Kind::Noise => made_worse(Degradation::Noise(strength)),
            Kind::Jpeg => made_worse(Degradation::Jpeg(strength as u8)),
            Kind::Brightness if (frames / 3..frames * 2 / 3).contains(&index) => {
                made_worse(Degradation::Brightness(strength))
            }
            Kind::Rotation => {
                let part = index as f32 / frames.saturating_sub(1).max(1) as f32;
                made_worse(Degradation::Rotation(strength * (TAU * part).sin()))
            }
            Kind::Drop if index * (DROP_OF - count) % DROP_OF >= DROP_OF - count => None,
            Kind::Burst if index % BURST_OF >= BURST_OF - count => None,
            Kind::Black if is_spoilt() => {
                Some(Shown { degradation: Some(Degradation::Brightness(0.0)), scored: false, ..whole })
            }
            Kind::Torn if is_spoilt() => {
                Some(Shown { degradation: Some(Degradation::Torn(TORN_SHIFT)), scored: false, ..whole })
            }
            Kind::Repeated if is_spoilt() => Some(Shown { of: index - 1, scored: false, ..whole }),
            Kind::Brightness | Kind::Drop | Kind::Burst | Kind::Black | Kind::Torn | Kind::Repeated => Some(whole),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind.row().0, self.level.name())
    }
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Blur,
        Kind::Noise,
        Kind::Jpeg,
        Kind::Brightness,
        Kind::Rotation,
        Kind::Drop,
        Kind::Burst,
        Kind::Black,
        Kind::Torn,
        Kind::Repeated,
    ];

    /// A kind's name, and its strength at each level.
    ///
    /// Those of blur, noise and JPEG are severities 1, 2 and 4 of ImageNet-C (Hendrycks and Dietterich, "Benchmarking Neural
    /// Network Robustness to Common Corruptions and Perturbations", ICLR 2019); a gain is what the same severities add to a
    /// pixel of mean brightness. ImageNet-C is of single pictures: the other strengths are chosen here.
    fn row(self) -> (&'static str, [f32; 3]) {
        match self {
            // Standard deviation in hundredths of the height: 1, 2 and 4 pixels of 480.
            Kind::Blur => ("blur", [1.0 / 4.8, 2.0 / 4.8, 4.0 / 4.8]),
            // Standard deviation, of full scale: 20, 31 and 66 of 255.
            Kind::Noise => ("noise", [0.08, 0.12, 0.26]),
            // Quality.
            Kind::Jpeg => ("jpeg", [25.0, 18.0, 10.0]),
            // Gain, from a third of the video to two thirds of it.
            Kind::Brightness => ("brightness", [1.2, 1.45, 1.9]),
            // Degrees that the camera rolls to the one side and then to the other, once in the video.
            Kind::Rotation => ("rotation", [5.0, 15.0, 30.0]),
            // Frames missing of every 4: the second is every other one.
            Kind::Drop => ("drop", [1.0, 2.0, 3.0]),
            // Frames missing of every 30, in a row.
            Kind::Burst => ("burst", [5.0, 10.0, 20.0]),
            Kind::Black => ("black", SINGLE),
            Kind::Torn => ("torn", SINGLE),
            Kind::Repeated => ("repeated", SINGLE),
        }
    }
}

impl Level {
    pub const ALL: [Level; 3] = [Level::Mild, Level::Moderate, Level::Strong];

    pub fn name(self) -> &'static str {
        match self {
            Level::Mild => "mild",
            Level::Moderate => "moderate",
            Level::Strong => "strong",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Corruption {
        let parsed = Corruption::parse(text).unwrap();
        assert_eq!(parsed.len(), 1, "{text}");
        parsed[0]
    }

    fn shown(text: &str, frames: usize) -> Vec<Option<Shown>> {
        (0..frames).map(|index| one(text).shown(index, frames)).collect()
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(one("blur"), Corruption { kind: Kind::Blur, level: Level::Moderate });
        let all: Vec<Corruption> =
            Level::ALL.iter().flat_map(|level| Corruption::parse(&format!("all={}", level.name())).unwrap()).collect();
        assert_eq!(all.len(), 30);
        for corruption in all {
            assert_eq!(one(&corruption.to_string()), corruption);
        }
        assert!(Corruption::parse("fog").unwrap_err().contains("there are blur, noise, jpeg,"));
        assert!(Corruption::parse("blur=3").unwrap_err().contains("mild, moderate, strong"));
        assert!(Corruption::parse("").is_err());
    }

    #[test]
    fn the_first_frame_is_shown_and_more_is_worse() {
        for kind in Kind::ALL {
            for level in Level::ALL {
                let first = Corruption { kind, level }.shown(0, 70).expect("a video has its first frame");
                assert_eq!((first.of, first.scored), (0, true), "{kind:?}");
            }
            let worse = |level: usize| {
                let [from, to] = [kind.row().1[level], kind.row().1[level + 1]];
                // Of lower quality, or more often.
                if kind == Kind::Jpeg || kind.row().1 == SINGLE { to < from } else { to > from }
            };
            assert!(worse(0) && worse(1), "{kind:?}");
        }
    }

    #[test]
    fn as_many_frames_are_missing_as_it_says() {
        let missing = |text| -> Vec<usize> {
            shown(text, 60).into_iter().enumerate().filter(|(_, shown)| shown.is_none()).map(|(i, _)| i).collect()
        };
        assert_eq!(missing("drop"), (1..60).step_by(2).collect::<Vec<_>>());
        assert_eq!([missing("drop=mild").len(), missing("drop=strong").len()], [15, 45]);
        assert_eq!(missing("burst"), (20..30).chain(50..60).collect::<Vec<_>>());
        assert_eq!([missing("burst=mild").len(), missing("burst=strong").len()], [10, 40]);
        for text in ["blur", "noise", "jpeg", "brightness", "rotation", "black", "torn", "repeated"] {
            assert!(missing(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn what_is_no_picture_of_its_frame_is_not_scored() {
        for (text, other) in [("black", 10), ("torn", 10), ("repeated", 9)] {
            for (index, shown) in shown(text, 60).into_iter().map(Option::unwrap).enumerate() {
                let spoilt = [10, 30, 50].contains(&index);
                assert_eq!(shown.scored, !spoilt, "{text} {index}");
                assert_eq!(shown.degradation.is_some(), spoilt && text != "repeated", "{text} {index}");
                assert_eq!(shown.of, if spoilt { index - 10 + other } else { index }, "{text}");
            }
        }
        assert!(shown("rotation=strong", 60).into_iter().all(|shown| shown.unwrap().scored));
    }

    #[test]
    fn light_steps_up_and_down_and_the_camera_rolls_to_both_sides() {
        let bright: Vec<bool> = shown("brightness", 60).iter().map(|s| s.unwrap().degradation.is_some()).collect();
        assert_eq!(bright, (0..60).map(|i| (20..40).contains(&i)).collect::<Vec<_>>());
        let angle = |shown: &Option<Shown>| match shown.unwrap().degradation {
            Some(Degradation::Rotation(degrees)) => degrees,
            other => panic!("{other:?}"),
        };
        let angles: Vec<f32> = shown("rotation", 61).iter().map(angle).collect();
        assert!(angles[0] == 0.0 && (angles[15] - 15.0).abs() < 1e-4 && (angles[45] + 15.0).abs() < 1e-4, "{angles:?}");
        // Slowly.
        assert!(angles.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 2.0), "{angles:?}");
    }
}
