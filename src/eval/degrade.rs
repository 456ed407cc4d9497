//! Pictures made worse, by a graded strength.
//!
//! The library that does it cuts its Gaussian off at two standard deviations, and results towards 0 where they are
//! interpolated or noisy: pictures get darker by up to one level of 255 each time.

use std::borrow::Cow;
use std::fmt;

use image::{ImageBuffer, Luma, Rgb};
use imageproc::filter::gaussian_blur_f32;
use imageproc::geometric_transformations::{Border, Interpolation, rotate_about_center};
use imageproc::noise::gaussian_noise;

use super::davis::{Annotation, VOID};
use crate::picture;
use crate::types::{PixelBuf, PixelFormat};

/// What is done to a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Degradation {
    /// By a Gaussian; its standard deviation in hundredths of the picture's height.
    Blur(f32),
    /// Gaussian, each value its own; its standard deviation as a fraction of full scale.
    Noise(f32),
    /// Every value is multiplied by this; what is too bright is cut off.
    Brightness(f32),
    /// About the centre, in degrees; what comes in from outside is the nearest edge's, and belongs to nothing.
    Rotation(f32),
    /// Compressed to JPEG and back; the quality, 1 to 100, as libjpeg counts it.
    Jpeg(u8),
    /// The lower half is shifted to the right by this fraction of the width and comes in again on the left, as where bytes
    /// of an uncompressed picture were lost.
    Torn(f32),
}

impl Degradation {
    /// Each kind in rising strength.
    pub const DEFAULT: [Degradation; 12] = [
        Degradation::Blur(0.25),
        Degradation::Blur(0.5),
        Degradation::Blur(1.0),
        Degradation::Noise(0.05),
        Degradation::Noise(0.1),
        Degradation::Noise(0.2),
        Degradation::Brightness(0.6),
        Degradation::Brightness(0.3),
        Degradation::Brightness(0.1),
        Degradation::Rotation(10.0),
        Degradation::Rotation(20.0),
        Degradation::Rotation(45.0),
    ];

    /// The kind's name, without its strength.
    pub fn kind(self) -> &'static str {
        match self {
            Degradation::Blur(_) => "blur",
            Degradation::Noise(_) => "noise",
            Degradation::Brightness(_) => "brightness",
            Degradation::Rotation(_) => "rotation",
            Degradation::Jpeg(_) => "jpeg",
            Degradation::Torn(_) => "torn",
        }
    }

    pub fn strength(self) -> f32 {
        match self {
            Degradation::Blur(v) | Degradation::Noise(v) | Degradation::Brightness(v) | Degradation::Rotation(v) => v,
            Degradation::Jpeg(quality) => f32::from(quality),
            Degradation::Torn(fraction) => fraction,
        }
    }

    /// Reads what [`Degradation`]'s `Display` writes: `blur 0.5`, or with a `=`.
    ///
    /// # Errors
    /// A sentence that says what can be given.
    pub fn parse(text: &str) -> Result<Degradation, String> {
        let rule = "a degradation is blur=HUNDREDTHS OF THE HEIGHT (0.01 to 20), noise=FRACTION (0.001 to 1), \
                    brightness=FACTOR (0.01 to 10), rotation=DEGREES (-180 to 180) or jpeg=QUALITY (1 to 100)";
        let (kind, strength) = text.split_once(['=', ' ']).ok_or(rule)?;
        let strength: f32 = strength.trim().parse().map_err(|_| rule)?;
        let (degradation, range) = match kind {
            "blur" => (Degradation::Blur(strength), 0.01..=20.0),
            "noise" => (Degradation::Noise(strength), 0.001..=1.0),
            "brightness" => (Degradation::Brightness(strength), 0.01..=10.0),
            "rotation" => (Degradation::Rotation(strength), -180.0..=180.0),
            "jpeg" => (Degradation::Jpeg(strength.round() as u8), 1.0..=100.0),
            _ => return Err(rule.into()),
        };
        if range.contains(&strength) { Ok(degradation) } else { Err(rule.into()) }
    }

    /// An RGB picture made worse. `seed` says which noise it is.
    ///
    /// # Panics
    /// When the picture is not of [`PixelFormat::Rgb3`], tightly packed, or too large for a JPEG picture.
    pub fn picture(self, pixels: &PixelBuf, seed: u64) -> PixelBuf {
        assert_eq!((pixels.format, pixels.stride), (PixelFormat::Rgb3, 3 * pixels.width), "packed RGB");
        let (width, height) = (pixels.width, pixels.height);
        let mut rgb = pixels.bytes()[..3 * width * height].to_vec();
        let buffer = |rgb| -> ImageBuffer<Rgb<u8>, Vec<u8>> {
            ImageBuffer::from_raw(width as u32, height as u32, rgb).expect("as many bytes as its size says")
        };
        let rgb = match self {
            Degradation::Blur(hundredths) => {
                gaussian_blur_f32(&buffer(rgb), hundredths * height as f32 / 100.0).into_raw()
            }
            Degradation::Noise(fraction) => {
                gaussian_noise(&buffer(rgb), 0.0, f64::from(fraction) * 255.0, seed).into_raw()
            }
            Degradation::Brightness(factor) => {
                rgb.iter_mut().for_each(|v| *v = (f32::from(*v) * factor).round() as u8);
                rgb
            }
            Degradation::Rotation(degrees) => {
                let (angle, bilinear) = (degrees.to_radians(), Interpolation::Bilinear);
                rotate_about_center(&buffer(rgb), angle, bilinear, Border::Replicate).into_raw()
            }
            Degradation::Jpeg(quality) => {
                let jpeg = picture::encode_jpeg(&rgb, width, height, quality).expect("of a size that JPEG holds");
                picture::decode_jpeg(&jpeg, &mut rgb).expect("what was encoded is decoded");
                rgb
            }
            Degradation::Torn(fraction) => {
                let shift = 3 * (fraction * width as f32) as usize;
                rgb.chunks_exact_mut(3 * width).skip(height / 2).for_each(|row| row.rotate_right(shift));
                rgb
            }
        };
        PixelBuf::packed(PixelFormat::Rgb3, width, height, rgb).expect("as many bytes as before")
    }

    /// Where the objects of an annotated picture are afterwards.
    pub fn annotation(self, annotation: &Annotation) -> Cow<'_, Annotation> {
        let Degradation::Rotation(degrees) = self else { return Cow::Borrowed(annotation) };
        let (width, height) = (annotation.width, annotation.height);
        let picture: ImageBuffer<Luma<u8>, Vec<u8>> =
            ImageBuffer::from_raw(width as u32, height as u32, annotation.pixels.clone()).expect("a byte a pixel");
        let outside = Border::Constant(Luma([VOID]));
        let rotated = rotate_about_center(&picture, degrees.to_radians(), Interpolation::Nearest, outside);
        Cow::Owned(Annotation { width, height, pixels: rotated.into_raw() })
    }
}

impl fmt::Display for Degradation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.strength())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 2] = [60, 90];

    /// A bright square on darkness, with its annotation.
    fn square() -> (PixelBuf, Annotation) {
        let [height, width] = SIZE;
        let inside = |i: usize| (20..40).contains(&(i % width)) && (10..30).contains(&(i / width));
        let rgb = (0..width * height).flat_map(|i| if inside(i) { [200, 100, 50] } else { [20, 20, 20] }).collect();
        let pixels = (0..width * height).map(|i| u8::from(inside(i))).collect();
        (PixelBuf::packed(PixelFormat::Rgb3, width, height, rgb).unwrap(), Annotation { width, height, pixels })
    }

    fn red(picture: &PixelBuf) -> Vec<f32> {
        picture.bytes().iter().step_by(3).map(|v| f32::from(*v)).collect()
    }

    /// Mean square of what changes from one pixel to the next in a row.
    fn roughness(picture: &PixelBuf) -> f32 {
        let red = red(picture);
        red.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f32>() / red.len() as f32
    }

    #[test]
    fn each_kind_does_what_its_name_says_and_more_does_more() {
        let (picture, _) = square();
        let mean = |picture: &PixelBuf| red(picture).iter().sum::<f32>() / red(picture).len() as f32;
        let [some, more] = [2.0, 6.0].map(|v| Degradation::Blur(v).picture(&picture, 1));
        assert!(roughness(&picture) > 1.5 * roughness(&some) && roughness(&some) > 1.5 * roughness(&more));
        assert!((mean(&picture) - mean(&more)).abs() < 2.0, "blurring moves light, and makes none");
        let [some, more] = [0.05, 0.2].map(|v| Degradation::Noise(v).picture(&picture, 1));
        assert!(roughness(&picture) < 0.8 * roughness(&some) && roughness(&some) < 0.3 * roughness(&more));
        // The standard deviation is what was asked for, where nothing is cut off.
        let deviations = red(&some).into_iter().zip(red(&picture)).filter(|(_, was)| *was > 100.0);
        let squares: Vec<f32> = deviations.map(|(is, was)| (is - was).powi(2)).collect();
        let deviation = (squares.iter().sum::<f32>() / squares.len() as f32).sqrt();
        assert!((deviation - 0.05 * 255.0).abs() < 1.5, "{deviation}");
        let dark = Degradation::Brightness(0.3).picture(&picture, 1);
        assert!(dark.bytes().iter().zip(picture.bytes()).all(|(a, b)| *a == (f32::from(*b) * 0.3).round() as u8));
        let bright = Degradation::Brightness(3.0).picture(&picture, 1);
        assert_eq!(red(&bright).into_iter().fold(0.0, f32::max), 255.0, "cut off, not wrapped around");
    }

    #[test]
    fn a_jpeg_of_less_quality_is_less_like_the_picture() {
        let (picture, _) = square();
        let error = |quality| {
            let degraded = Degradation::Jpeg(quality).picture(&picture, 1);
            let squares = degraded.bytes().iter().zip(picture.bytes()).map(|(a, b)| f32::from(a.abs_diff(*b)).powi(2));
            squares.sum::<f32>() / picture.bytes().len() as f32
        };
        let [fine, coarse, coarsest] = [95, 25, 10].map(error);
        assert!(
            fine < 3.0 && fine < 0.5 * coarse && coarse < coarsest && coarsest < 400.0,
            "{fine} {coarse} {coarsest}"
        );
    }

    #[test]
    fn the_lower_half_alone_is_torn_away() {
        let [height, width] = [7, 12];
        let rgb: Vec<u8> = (0..height * width).flat_map(|i| [i as u8, 100 + i as u8, 7]).collect();
        let picture = PixelBuf::packed(PixelFormat::Rgb3, width, height, rgb.clone()).unwrap();
        let torn = Degradation::Torn(0.25).picture(&picture, 1);
        for (i, pixel) in torn.bytes().chunks_exact(3).enumerate() {
            let (x, y) = (i % width, i / width);
            let from = if y < 3 { x } else { (x + width - 3) % width };
            assert_eq!(pixel, &rgb[3 * (y * width + from)..][..3], "{x}, {y}");
        }
    }

    #[test]
    fn an_object_turns_with_its_picture() {
        let (picture, annotation) = square();
        let turned = Degradation::Rotation(90.0);
        let (picture, annotation) = (turned.picture(&picture, 1), turned.annotation(&annotation).into_owned());
        let bright = red(&picture).into_iter().map(|v| v > 100.0);
        let agree = bright.zip(&annotation.pixels).filter(|(bright, class)| *bright == (**class == 1)).count();
        assert!(agree as f32 > 0.98 * annotation.pixels.len() as f32, "{agree}");
        // The square's centre was 15 left of the picture's and 10 above: a quarter turn clockwise makes that 10 right,
        // 15 above.
        let mask = &annotation.masks(1)[0];
        let [x, y] = mask.centroid().unwrap();
        assert!((x - 55.0).abs() < 1.5 && (y - 15.0).abs() < 1.5, "{x}, {y}");
        assert!((mask.area() as f32 - 400.0).abs() < 50.0);
        assert_eq!(annotation.pixels[0], VOID, "a quarter turn of a wide picture leaves its sides empty");
        // Nothing else moves.
        let (_, still) = square();
        assert!(matches!(Degradation::Blur(1.0).annotation(&still), Cow::Borrowed(_)));
    }

    #[test]
    fn the_same_seed_is_the_same_noise() {
        let (picture, _) = square();
        let noisy = |seed| Degradation::Noise(0.1).picture(&picture, seed).bytes().to_vec();
        assert_eq!(noisy(3), noisy(3));
        assert_ne!(noisy(3), noisy(4));
    }

    #[test]
    fn strengths_are_read_as_they_are_written() {
        for degradation in Degradation::DEFAULT {
            assert_eq!(Degradation::parse(&degradation.to_string()), Ok(degradation));
        }
        assert_eq!(Degradation::parse("jpeg=25"), Ok(Degradation::Jpeg(25)));
        assert_eq!(Degradation::parse("rotation=-30"), Ok(Degradation::Rotation(-30.0)));
        for wrong in ["blur", "blur=0", "blur=x", "noise=2", "brightness=-1", "fog=1", "rotation=NaN", "jpeg=0", ""] {
            assert!(Degradation::parse(wrong).is_err(), "{wrong}");
        }
    }
}
