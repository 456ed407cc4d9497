//! Hard cases spliced from real video: another sequence is put into the middle of one, which then goes on where it stopped.

use super::film::{FPS, Film, GroundTruth};
use super::{Case, TrialError};
use crate::eval::davis::{Annotation, VOID};
use crate::eval::{Davis, Sequence};
use crate::types::report::Reason;
use crate::types::{Mask, PixelBuf, PixelFormat};

/// Frames of the other sequence; where it is shorter, it begins again.
const INTERRUPTION: usize = 60;
/// Objects with a smaller part of the picture are not tagged: they are less than a patch, and lost without any interruption.
const SMALLEST: f64 = 0.001;
/// What is farther from every edge than this part of the picture did not leave by it.
const WITHIN: usize = 16;
/// What is above and below two halves: the middle of what a backbone takes.
const BAR: [u8; 3] = [128; 3];

/// What is shown of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Plain,
    /// Beside its mirror image.
    Mirrored,
}

const KINDS: [(&str, Layout); 2] = [("spliced", Layout::Plain), ("side by side", Layout::Mirrored)];

/// Every kind of case of each of the sequences, which are looked up before the first is read; `wanted` chooses by name, all
/// where it is empty. Of each the error when its masks cannot be read.
///
/// # Errors
/// When there is no such sequence, or no other to interrupt it.
pub fn cases<'a>(
    davis: &'a Davis,
    names: &'a [String],
    wanted: &'a [String],
) -> Result<impl Iterator<Item = Result<Case, TrialError>> + 'a, TrialError> {
    for name in names {
        davis.sequence(name)?;
        davis.sequence(next(davis, name)?)?;
    }
    let is_wanted = move |kind: &str| wanted.is_empty() || wanted.iter().any(|name| name == kind);
    Ok(names.iter().flat_map(move |name| {
        let kinds = KINDS.iter().filter(move |(kind, _)| is_wanted(kind));
        kinds.map(move |(kind, layout)| case(davis, name, kind, *layout))
    }))
}

/// The names of all kinds.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(kind, _)| *kind)
}

/// A sequence that is interrupted.
pub(super) struct Spliced {
    sequence: Sequence,
    interruption: Sequence,
    layout: Layout,
    /// (annotated frames of the sequence, objects); of two beside each other, all of the left one first
    masks: Vec<Vec<Mask>>,
}

fn case(davis: &Davis, name: &str, kind: &str, layout: Layout) -> Result<Case, TrialError> {
    let sequence = davis.sequence(name)?;
    let interruption = davis.sequence(next(davis, name)?)?;
    let spliced = Spliced::new(sequence, interruption, layout)?;
    let least = SMALLEST * (spliced.width() * spliced.height()) as f64;
    let tagged = (1..).zip(&spliced.masks[0]).filter(|(_, mask)| mask.area() as f64 >= least);
    Ok(Case {
        kind: kind.to_owned(),
        name: name.to_owned(),
        frames: (spliced.masks.len() + INTERRUPTION) as u64,
        tagged: tagged.map(|(number, _)| number).collect(),
        restart: None,
        film: Film::Spliced(spliced),
    })
}

/// The sequence after that one, in the order of their names; after the last comes the first.
fn next<'a>(davis: &'a Davis, name: &str) -> Result<&'a str, TrialError> {
    let names = davis.names();
    let after = names.iter().position(|have| have == name).map_or(0, |at| at + 1);
    let other = &names[after % names.len()];
    if other == name { Err(TrialError::Alone { sequence: name.to_owned() }) } else { Ok(other) }
}

impl Spliced {
    fn new(sequence: Sequence, interruption: Sequence, layout: Layout) -> Result<Spliced, TrialError> {
        let instances = sequence.instances();
        let masks = |index: usize| -> Result<Vec<Mask>, TrialError> {
            let annotation = sequence.annotation(index)?;
            Ok(match layout {
                Layout::Plain => annotation.masks(instances),
                Layout::Mirrored => mirrored_labels(&annotation, instances as u8).masks(2 * instances),
            })
        };
        let masks = (0..sequence.annotated()).map(masks).collect::<Result<_, _>>()?;
        Ok(Spliced { sequence, interruption, layout, masks })
    }

    fn width(&self) -> usize {
        self.sequence.first().width
    }

    fn height(&self) -> usize {
        self.sequence.first().height
    }

    /// The picture of a frame, and what is true of each object in it.
    pub fn shot(&self, index: u64) -> Result<(PixelBuf, Vec<GroundTruth>), TrialError> {
        let (index, cut) = (index as usize, self.masks.len() / 2);
        match index.checked_sub(cut) {
            Some(since) if since < INTERRUPTION => Ok((self.interrupting(since)?, self.gone(cut - 1))),
            Some(since) => self.shown(cut + since - INTERRUPTION),
            None => self.shown(index),
        }
    }

    fn shown(&self, index: usize) -> Result<(PixelBuf, Vec<GroundTruth>), TrialError> {
        let pixels = self.sequence.frame(index)?.pixels;
        let pixels = match self.layout {
            Layout::Plain => pixels,
            Layout::Mirrored => packed(mirrored(&pixels), pixels.width, pixels.height),
        };
        // What an object would have if nothing hid it is not annotated; what it has half a second before or after tells.
        let near = (FPS / 2.0) as usize;
        let around = &self.masks[index.saturating_sub(near)..(index + near + 1).min(self.masks.len())];
        let whole = |object: usize| around.iter().map(|masks| masks[object].area()).max().unwrap_or(0) as f64;
        let truth =
            |(object, mask): (usize, &Mask)| GroundTruth { mask: mask.clone(), whole: whole(object), reasons: &[] };
        Ok((pixels, self.masks[index].iter().enumerate().map(truth).collect()))
    }

    fn interrupting(&self, since: usize) -> Result<PixelBuf, TrialError> {
        let pixels = self.interruption.frame(since % self.interruption.len())?.pixels;
        let (width, height) = (self.width(), self.height());
        if (pixels.width, pixels.height) == (width, height) {
            return Ok(pixels);
        }
        Ok(packed(scaled(&pixels, width, height), width, height))
    }

    /// Nothing is there. What was well within the picture in the `last` frame before cannot have left it by an edge.
    fn gone(&self, last: usize) -> Vec<GroundTruth> {
        let (width, height) = (self.width(), self.height());
        let (right, down) = (width / WITHIN, height / WITHIN);
        let is_within =
            |[x, y, w, h]: [usize; 4]| x > right && y > down && x + w + right < width && y + h + down < height;
        let truth = |mask: &Mask| GroundTruth {
            mask: Mask::empty(width, height),
            whole: mask.area() as f64,
            reasons: if mask.bounds().is_some_and(is_within) { &[Reason::Unseen] } else { &[] },
        };
        self.masks[last].iter().map(truth).collect()
    }
}

fn packed(rgb: Vec<[u8; 3]>, width: usize, height: usize) -> PixelBuf {
    PixelBuf::packed(PixelFormat::Rgb3, width, height, rgb.into_flattened()).expect("every pixel is there")
}

/// A picture at half its size and, to the right of it, its mirror image, between bars: nothing is cut off or distorted.
fn mirrored(pixels: &PixelBuf) -> Vec<[u8; 3]> {
    let (width, height) = (pixels.width, pixels.height);
    let mut out = vec![BAR; width * height];
    beside(&scaled(pixels, width / 2, height / 2), width / 2, &mut out, [width, height], |pixel| pixel);
    out
}

/// The labels of a picture that is shown beside its mirror image, where each object has the number after `instances` more.
fn mirrored_labels(annotation: &Annotation, instances: u8) -> Annotation {
    let Annotation { width, height, pixels } = annotation;
    let (half_width, half_height) = (width / 2, height / 2);
    let middle = |at: usize, from: usize, to: usize| (2 * at + 1) * from / (2 * to);
    let label = |at: usize| {
        let (x, y) = (middle(at % half_width, *width, half_width), middle(at / half_width, *height, half_height));
        pixels[y * width + x]
    };
    let half: Vec<u8> = (0..half_width * half_height).map(label).collect();
    let mut out = vec![0; width * height];
    let twin = |label: u8| if [0, VOID].contains(&label) { label } else { label.saturating_add(instances) };
    beside(&half, half_width, &mut out, [*width, *height], twin);
    Annotation { width: *width, height: *height, pixels: out }
}

/// Writes a picture `of_width` into the left half of a larger one, in the middle of its height, and its mirror image beside it,
/// made of other pixels by `twin`.
fn beside<T: Copy>(picture: &[T], of_width: usize, out: &mut [T], [width, height]: [usize; 2], twin: impl Fn(T) -> T) {
    let top = (height - picture.len() / of_width) / 2;
    for (row, pixels) in picture.chunks_exact(of_width).enumerate() {
        let (left, right) = out[(top + row) * width..][..2 * of_width].split_at_mut(of_width);
        left.copy_from_slice(pixels);
        right.iter_mut().zip(pixels.iter().rev()).for_each(|(to, from)| *to = twin(*from));
    }
}

/// A picture of another size: each pixel is the mean of those that it touches.
fn scaled(pixels: &PixelBuf, width: usize, height: usize) -> Vec<[u8; 3]> {
    let rgb = pixels.bytes().as_chunks::<3>().0;
    let touched = |at: usize, from: usize, to: usize| at * from / to..((at + 1) * from).div_ceil(to);
    let pixel = |at: usize| {
        let (columns, rows) = (touched(at % width, pixels.width, width), touched(at / width, pixels.height, height));
        let (mut sums, count) = ([0; 3], columns.len() * rows.len());
        for from in rows.flat_map(|y| &rgb[y * pixels.width..][columns.clone()]) {
            sums.iter_mut().zip(from).for_each(|(sum, value)| *sum += usize::from(*value));
        }
        sums.map(|sum| ((sum + count / 2) / count) as u8)
    };
    (0..width * height).map(pixel).collect()
}

#[cfg(test)]
#[path = "spliced_tests.rs"]
mod tests;
