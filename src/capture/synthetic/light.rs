//! How bright the scene is, when.

use super::arithmetic::{Random, sin};
use super::screenplay::{BEATS, Moment};

/// Beats between changes of level, and the beat of the first.
const STEP_EVERY: usize = 4;
const FIRST_STEP: usize = 5;
/// The part of a beat that a quick step takes: a tenth of a second.
const STEP_PART: f64 = 1.0 / 16.0;

/// The light's plan.
pub struct Light {
    /// (BEATS): gain from this beat on
    levels: Vec<f64>,
}

impl Light {
    pub fn new(seed: u64) -> Light {
        let mut random = Random::new(seed, 0x004c_4947_4854);
        let mut level = 1.0;
        let levels = (0..BEATS).map(|beat| {
            if beat % STEP_EVERY == FIRST_STEP % STEP_EVERY && beat >= FIRST_STEP {
                // Lamps go on and off: each change leads away from the level before, and back to it.
                let dim = random.unit() < 0.5;
                level = if level != 1.0 {
                    1.0
                } else if dim {
                    0.84
                } else {
                    1.16
                };
            }
            // As the plan began, so it must end.
            if beat + STEP_EVERY > BEATS { 1.0 } else { level }
        });
        Light { levels: levels.collect() }
    }

    /// The gain: within a fifth of 1 slowly, times a step.
    pub fn gain(&self, moment: Moment) -> f64 {
        let now = self.levels[moment.beat];
        let before = self.levels[(moment.beat + BEATS - 1) % BEATS];
        let step = before + (now - before) * (moment.part / STEP_PART).min(1.0);
        let part = moment.of_loop();
        step * (1.0 + 0.13 * sin(6.0 * part) + 0.07 * sin(11.0 * part))
    }

    /// The gain of red, green and blue: the light grows warmer and colder too.
    pub fn gains(&self, moment: Moment) -> [f64; 3] {
        let gain = self.gain(moment);
        let warmth = 0.05 * sin(7.0 * moment.of_loop());
        [gain * (1.0 + warmth), gain, gain * (1.0 - warmth)]
    }
}
