//! A scene that is computed: textured objects move, turn and scale over a textured ground under a camera that
//! drifts, pass behind each other, leave and return, in changing light and sensor noise. What it shows follows
//! from its options and the number of the frame alone, and the exact mask of every object is known.
//!
//! Every frame is byte for byte the same on every machine: see [`arithmetic`]. The plan begins again after 153.6
//! seconds, exactly where it began; only the noise never repeats.
//!
//! Object 1 is whole, in view and in front of everything for the first three seconds, so that it can be tagged in
//! frame 0. Of two objects or more, each passes behind another within the first ten seconds, and the last one
//! leaves the view after about six and comes back elsewhere two seconds later. [`Scene::crossings`] and
//! [`Scene::absences`] tell when.
//!
//! [`Scene::written`] films a [`Script`] instead: what happens in it is written out, to the frame.

pub mod arithmetic;
mod backdrop;
mod light;
mod paint;
mod screenplay;
mod script;
mod source;
mod sprite;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use script::{Actor, Keyframes, Script};
pub use source::SyntheticSource;

use crate::types::Mask;
use crate::types::mask::MaskBuilder;
use arithmetic::Random;
use backdrop::Backdrop;
use light::Light;
use paint::{Placed, Sensor};
use screenplay::{BEAT_US, Moment, Pose, Screenplay, Stage};
use sprite::Sprite;

/// What a scene is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneOptions {
    /// Pixels, 16 to 8,192.
    pub width: usize,
    /// Pixels, 16 to 8,192.
    pub height: usize,
    /// Everything that looks random follows from it.
    pub seed: u64,
    /// 1 to 64.
    pub objects: usize,
    /// Frames a second of the scene's own time, 0.1 to 1,000.
    pub fps: f32,
    /// Standard deviation of the sensor's noise in levels of 255, 0 to 32.
    pub noise: f32,
    /// Slow changes of the light by a fifth to either side, and quick steps.
    pub light_changes: bool,
    /// Corners are darker.
    pub vignette: bool,
}

impl Default for SceneOptions {
    fn default() -> SceneOptions {
        SceneOptions {
            width: 640,
            height: 480,
            seed: 1,
            objects: 4,
            fps: 30.0,
            noise: 2.5,
            light_changes: true,
            vignette: true,
        }
    }
}

/// Objects that a scene may have.
const MAX_OBJECTS: usize = 64;
/// Pixels to either side that a written scene is blurred over at most.
const MAX_BLUR: f64 = 64.0;

impl SceneOptions {
    fn check(&self) -> Result<(), SceneError> {
        let SceneOptions { width, height, objects, fps, noise, .. } = *self;
        if !(16..=8192).contains(&width) || !(16..=8192).contains(&height) {
            return Err(SceneError::Size(width, height));
        }
        if !(1..=MAX_OBJECTS).contains(&objects) {
            return Err(SceneError::Objects(objects));
        }
        if !(0.1..=1000.0).contains(&fps) {
            return Err(SceneError::Fps(fps));
        }
        if !(0.0..=32.0).contains(&noise) {
            return Err(SceneError::Noise(noise));
        }
        Ok(())
    }

    /// The height of the 4:3 picture that fits in, in pixels.
    fn unit(&self) -> f64 {
        (self.height as f64).min(self.width as f64 * 0.75)
    }
}

/// Why a scene cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SceneError {
    #[error("a synthetic scene is 16 to 8192 pixels wide and high, not {0}x{1}")]
    Size(usize, usize),
    #[error("a synthetic scene has 1 to 64 objects, not {0}")]
    Objects(usize),
    #[error("a synthetic scene runs at 0.1 to 1000 frames a second, not {0}")]
    Fps(f32),
    #[error("a synthetic scene's noise is 0 to 32 levels, not {0}")]
    Noise(f32),
    #[error("actor {0} of a script (from 0) has no place, or one that is no place; its radius is 2.5 pixels or more")]
    Actor(usize),
    #[error("a script's camera moves up to 4096 pixels to either side")]
    Camera,
}

/// A scene, ready to be rendered at any moment. Making one of 640x480 pixels takes tens of milliseconds, a frame of
/// it then about half of one.
pub struct Scene {
    options: SceneOptions,
    /// (objects)
    sprites: Vec<Sprite>,
    backdrop: Backdrop,
    direction: Direction,
    sensor: Sensor,
}

/// What happens.
enum Direction {
    /// Something all the time, without end.
    Endless { play: Screenplay, light: Light },
    /// What is written; and the objects' numbers, from 0.
    Written { script: Script, order: Vec<u8> },
}

/// What is exactly true of a frame. Objects have the numbers 1, 2, 3 ...
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// The frame's number.
    pub index: u64,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// (height, width): the object that is seen at each pixel, 0 for the ground
    pub instances: Vec<u8>,
    /// (objects): object k is at k - 1
    pub objects: Vec<ObjectTruth>,
}

/// What is exactly true of an object in a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectTruth {
    /// Pixels that are seen of it.
    pub visible_area: u32,
    /// Pixels in the picture that would be seen of it if nothing were before it.
    pub full_area: u32,
    /// Its centre: x, y in pixels; outside the picture when it is out of view.
    pub centre: [f32; 2],
    /// The pixels that it may cover: columns, rows.
    reach: [Range<usize>; 2],
}

impl ObjectTruth {
    /// Nothing of it is within the picture. What is fully hidden behind another object is not out of view.
    pub fn out_of_view(&self) -> bool {
        self.full_area == 0
    }

    /// How much of what lies within the picture is hidden by other objects, in [0, 1]; 0 when it is out of view.
    pub fn occluded(&self) -> f32 {
        if self.full_area == 0 { 0.0 } else { 1.0 - self.visible_area as f32 / self.full_area as f32 }
    }
}

impl Truth {
    /// The visible pixels of object `number` (from 1); empty for a number that no object has.
    pub fn mask(&self, number: usize) -> Mask {
        let Some(object) = number.checked_sub(1).and_then(|index| self.objects.get(index)) else {
            return Mask::empty(self.width, self.height);
        };
        let [columns, rows] = object.reach.clone();
        let mut builder = MaskBuilder::new(self.width, self.height);
        for x in columns {
            for y in rows.clone() {
                if usize::from(self.instances[y * self.width + x]) == number {
                    builder.run(x, y, y + 1);
                }
            }
        }
        builder.finish()
    }
}

/// A rendered frame. Use one again and again: rendering then allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct SceneFrame {
    /// (height, width, 3): red, green, blue
    pub rgb: Vec<u8>,
    pub truth: Truth,
    /// Room that exposing works in.
    gain_row: Vec<u16>,
}

/// A planned meeting: at `frame` the centres of two objects are close together, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    pub frame: u64,
    /// The number of the object that is covered.
    pub behind: usize,
    /// The number of the object before it.
    pub front: usize,
}

impl Scene {
    /// Plans and paints a scene.
    ///
    /// # Errors
    /// When an option is out of its range.
    pub fn new(options: SceneOptions) -> Result<Scene, SceneError> {
        let SceneOptions { width, height, seed, objects, noise, vignette, .. } = options;
        options.check()?;
        let unit = options.unit();
        let mut random = Random::new(seed, 0x5349_5a45);
        let room = (8.0 / objects as f64).min(1.0);
        let sprites: Vec<Sprite> = (0..objects)
            .map(|index| {
                // A crowd is a crowd of small things.
                let diameter = unit * random.within(0.085 + 0.065 * room, 0.1 + 0.115 * room);
                Sprite::new(seed, index, (0.5 * diameter).max(2.5) as f32)
            })
            .collect();
        let radii: Vec<f64> = sprites.iter().map(|sprite| f64::from(sprite.radius)).collect();
        let stage = Stage { width: width as f64, height: height as f64, unit, radii: &radii };
        let margin = (0.12 * unit).ceil() as usize + 3;
        Ok(Scene {
            direction: Direction::Endless { play: Screenplay::new(&stage, seed), light: Light::new(seed) },
            backdrop: Backdrop::new(seed, [width, height], unit, objects, margin),
            sensor: Sensor::new(width, height, seed, noise, vignette),
            sprites,
            options,
        })
    }

    /// Paints a scene in which happens what is written. Of the options `objects` and `light_changes` say nothing.
    ///
    /// # Errors
    /// When an option is out of its range, or the script asks for what cannot be shown.
    pub fn written(options: SceneOptions, script: Script) -> Result<Scene, SceneError> {
        let options = SceneOptions { objects: script.actors.len(), light_changes: false, ..options };
        options.check()?;
        script.check()?;
        let SceneOptions { width, height, seed, objects, noise, vignette, .. } = options;
        let sprites = script.actors.iter().map(|actor| Sprite::new(seed, actor.look, actor.radius as f32)).collect();
        Ok(Scene {
            sprites,
            backdrop: Backdrop::new(seed, [width, height], options.unit(), objects, script.margin()),
            direction: Direction::Written { script, order: (0..objects as u8).collect() },
            sensor: Sensor::new(width, height, seed, noise, vignette),
            options,
        })
    }

    pub fn options(&self) -> &SceneOptions {
        &self.options
    }

    /// Renders frame `index` and its truth. Frames may be asked for in any order.
    pub fn render(&self, index: u64, out: &mut SceneFrame) {
        let SceneOptions { width, height, .. } = self.options;
        out.rgb.resize(width * height * 3, 0);
        paint::paint_ground(&self.backdrop, self.camera(index), width, &mut out.rgb);
        self.place_objects::<true>(index, &mut out.truth, &mut out.rgb);
        if let Direction::Written { script, .. } = &self.direction {
            let [blur] = script.blur.at(index).unwrap_or_default();
            paint::blur(width, blur.clamp(0.0, MAX_BLUR).round() as usize, &mut out.rgb);
        }
        self.sensor.expose(self.gains(index), index, &mut out.gain_row, &mut out.rgb);
    }

    /// The truth of frame `index`, without the picture.
    pub fn truth(&self, index: u64) -> Truth {
        let mut truth = Truth::default();
        self.place_objects::<false>(index, &mut truth, &mut []);
        truth
    }

    /// The pixels of object `number` (from 1) that lie within frame `index`, as if nothing were before it; empty
    /// for a number that no object has.
    pub fn silhouette(&self, index: u64, number: usize) -> Mask {
        let SceneOptions { width, height, .. } = self.options;
        let mut pixels = vec![0; width * height];
        if let Some(object) = number.checked_sub(1).filter(|object| *object < self.sprites.len()) {
            self.placed(object, &self.pose(object, index)).for_each_pixel([width, height], |row, column, paint| {
                pixels[row * width + column] = u8::from(is_inside(paint));
            });
        }
        Mask::from_pixels(width, height, &pixels, 1)
    }

    /// The light's gain at frame `index`: 1 is the light of frame 0.
    pub fn gain(&self, index: u64) -> f64 {
        match &self.direction {
            Direction::Endless { light, .. } if self.options.light_changes => light.gain(self.moment(index)),
            Direction::Endless { .. } => 1.0,
            Direction::Written { script, .. } => script.light.at(index).map_or(1.0, |[gain]| gain),
        }
    }

    /// The gain of red, green and blue at frame `index`.
    fn gains(&self, index: u64) -> [f64; 3] {
        match &self.direction {
            Direction::Endless { light, .. } if self.options.light_changes => light.gains(self.moment(index)),
            _ => [self.gain(index); 3],
        }
    }

    /// Where the camera looks at frame `index`: pixels from the left and the top of the ground.
    fn camera(&self, index: u64) -> [f64; 2] {
        match &self.direction {
            Direction::Endless { .. } => self.backdrop.camera(self.moment(index).of_loop()),
            Direction::Written { script, .. } => {
                script.camera.at(index).unwrap_or_default().map(|at| self.backdrop.margin as f64 + at)
            }
        }
    }

    /// The planned crossings within a range of frames, in order of time. Other objects cross by chance.
    pub fn crossings(&self, frames: Range<u64>) -> Vec<Crossing> {
        let Direction::Endless { play, .. } = &self.direction else { return Vec::new() };
        let time = |frame: u64| self.time_us(frame);
        let loop_us = u128::from(screenplay::LOOP_US);
        let loops = time(frames.start) / loop_us..time(frames.end) / loop_us + 1;
        let found = loops.flat_map(|turn| {
            play.meetings().iter().map(move |meeting| {
                let time = turn * loop_us + u128::from(meeting.beat as u64 * BEAT_US);
                (self.frame_at(time), meeting)
            })
        });
        found
            .filter(|(frame, _)| frames.contains(frame))
            .map(|(frame, meeting)| Crossing { frame, behind: meeting.behind + 1, front: meeting.front + 1 })
            .collect()
    }

    /// The ranges of frames, within `frames`, in which nothing of object `number` (from 1) is in the picture.
    /// It takes a moment for each frame: ask for minutes, not for days.
    pub fn absences(&self, number: usize, frames: Range<u64>) -> Vec<Range<u64>> {
        let Some(object) = number.checked_sub(1).filter(|object| *object < self.sprites.len()) else {
            return Vec::new();
        };
        let mut absences: Vec<Range<u64>> = Vec::new();
        for frame in frames {
            if self.is_absent(object, frame) {
                match absences.last_mut() {
                    Some(last) if last.end == frame => last.end += 1,
                    _ => absences.push(frame..frame + 1),
                }
            }
        }
        absences
    }

    fn is_absent(&self, object: usize, index: u64) -> bool {
        let SceneOptions { width, height, .. } = self.options;
        let pose = self.pose(object, index);
        let within = |at: f64, size: usize| (1.0..size as f64 - 1.0).contains(&at);
        // Every object holds the pixel under its centre.
        if within(pose.x, width) && within(pose.y, height) {
            return false;
        }
        let mut absent = true;
        self.placed(object, &pose).for_each_pixel([width, height], |_, _, paint| absent &= !is_inside(paint));
        absent
    }

    /// Draws every object from back to front: its number and, if `COLOUR`, its colours and shadow.
    fn place_objects<const COLOUR: bool>(&self, index: u64, truth: &mut Truth, rgb: &mut [u8]) {
        let SceneOptions { width, height, .. } = self.options;
        (truth.index, truth.width, truth.height) = (index, width, height);
        truth.instances.clear();
        truth.instances.resize(width * height, 0);
        truth.objects.clear();
        truth.objects.extend((0..self.sprites.len()).map(|object| {
            let pose = self.pose(object, index);
            ObjectTruth {
                visible_area: 0,
                full_area: 0,
                centre: [pose.x as f32, pose.y as f32],
                reach: self.placed(object, &pose).reach([width, height]),
            }
        }));
        for &object in self.order(index) {
            let object = usize::from(object);
            let placed = self.placed(object, &self.pose(object, index));
            if COLOUR {
                placed.cast_shadow([width, height], rgb);
            }
            placed.for_each_pixel([width, height], |row, column, paint| {
                let at = row * width + column;
                if is_inside(paint) {
                    let before = std::mem::replace(&mut truth.instances[at], object as u8 + 1);
                    if before > 0 {
                        truth.objects[usize::from(before) - 1].visible_area -= 1;
                    }
                    truth.objects[object].visible_area += 1;
                    truth.objects[object].full_area += 1;
                }
                if COLOUR {
                    for (old, new) in rgb[at * 3..at * 3 + 3].iter_mut().zip(paint) {
                        *old = (i32::from(*old) + (((new - i32::from(*old)) * paint[3]) >> 8)) as u8;
                    }
                }
            });
        }
    }

    fn placed(&self, object: usize, pose: &Pose) -> Placed<'_> {
        Placed::new(&self.sprites[object], pose)
    }

    fn pose(&self, object: usize, index: u64) -> Pose {
        match &self.direction {
            Direction::Endless { play, .. } => play.pose(object, self.moment(index)),
            Direction::Written { script, .. } => script.pose(object, index),
        }
    }

    /// The objects from back to front.
    fn order(&self, index: u64) -> &[u8] {
        match &self.direction {
            Direction::Endless { play, .. } => play.order(self.moment(index)),
            Direction::Written { order, .. } => order,
        }
    }

    fn moment(&self, index: u64) -> Moment {
        Moment::at(self.time_us(index))
    }

    /// Microseconds of scene time at a frame, to the thousandth of a frame a second.
    fn time_us(&self, index: u64) -> u128 {
        u128::from(index) * 1_000_000_000 / self.millihertz()
    }

    /// The last frame at or before a time.
    fn newest_at(&self, time_us: u128) -> u64 {
        // Frame times are rounded down to a microsecond, so the last frame's true time is before the next one.
        let past = ((time_us + 1) * self.millihertz()).div_ceil(1_000_000_000);
        u64::try_from(past - 1).unwrap_or(u64::MAX)
    }

    /// The first frame at or after a time.
    fn frame_at(&self, time_us: u128) -> u64 {
        u64::try_from((time_us * self.millihertz()).div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
    }

    fn millihertz(&self) -> u128 {
        (f64::from(self.options.fps) * 1000.0).round() as u128
    }
}

/// A pixel belongs to an object when it covers half of it or more.
fn is_inside(paint: [i32; 4]) -> bool {
    paint[3] >= 128
}
