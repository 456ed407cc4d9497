use std::time::{Duration, Instant};

use super::changes::Changes;
use super::screen::Screen;
use super::table::Table;
use super::{out, showcase};
use crate::types::TrackReport;

/// Show everything at work, without a camera.
///
/// A built-in scene of textured objects, which move, turn and pass behind each other, takes the place of a camera.
/// Its objects are tagged, and followed by the bundled model through the very pipeline that `tagalong run` runs.
/// Since the scene knows where its objects really are, a summary tells how well they were followed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// How long to run [default: until Ctrl-C on a terminal, else 10 seconds]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    seconds: Option<Duration>,
    /// Which scene: everything in it follows from this number
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u32,
    /// How many objects move
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    objects: u8,
}

const EXAMPLES: &str = "\
EXAMPLES
  A live table of three objects, until Ctrl-C:
      tagalong demo

  Half a minute of a busier scene, and only the changes and the summary:
      tagalong demo --seconds 30 --objects 8 --seed 7 | cat";

/// What the demonstration shows, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    pub seed: u32,
    pub objects: usize,
    /// `None` until the user interrupts.
    pub time: Option<Duration>,
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Frames that were reported.
    pub frames: u64,
    /// Frames that were lost because a newer one had come.
    pub dropped: u64,
    pub elapsed: Duration,
    /// Mean intersection over union of the tracks' masks with the scene's, over all frames and objects in sight.
    pub mean_iou: f64,
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let terminal = out::is_terminal();
        let time = self.seconds.or_else(|| (!terminal).then_some(Duration::from_secs(10)));
        let scene = Scene { seed: self.seed, objects: self.objects.into(), time };
        let (mut table, mut changes) = (Table::default(), Changes::default());
        let (mut screen, coloured) = (Screen::default(), out::is_coloured());
        let summary = showcase::follow(&scene, &mut |report: &TrackReport| {
            if !terminal {
                return changes.lines(report).iter().try_for_each(out::line);
            }
            let now = Instant::now();
            table.update(report, now);
            if screen.wait(now).is_zero() {
                screen.draw(&table.lines(now, screen.width(), coloured), now)?;
            }
            Ok(())
        })?;
        out::print(&render(&summary))
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0 && *seconds <= 1e6);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "a time is a number of seconds above 0".into())
}

fn render(summary: &Summary) -> String {
    let Summary { frames, dropped, elapsed, mean_iou } = *summary;
    let seconds = elapsed.as_secs_f64();
    let fps = if seconds > 0.0 { frames as f64 / seconds } else { 0.0 };
    format!("{frames} frames in {seconds:.1} s: {fps:.1} FPS, {dropped} dropped, mean IoU {mean_iou:.3}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_one_line() {
        let summary = Summary { frames: 250, dropped: 3, elapsed: Duration::from_millis(10_000), mean_iou: 0.8125 };
        assert_eq!(render(&summary), "250 frames in 10.0 s: 25.0 FPS, 3 dropped, mean IoU 0.812\n");
        assert_eq!(render(&Summary::default()), "0 frames in 0.0 s: 0.0 FPS, 0 dropped, mean IoU 0.000\n");
    }

    #[test]
    fn times_are_sensible() {
        assert_eq!(parse_seconds("2.5"), Ok(Duration::from_millis(2500)));
        for text in ["0", "-1", "inf", "NaN", "soon"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
