use super::daemon::Daemon;
use super::out;
use super::values::{Pointed, parse_box, parse_point};
use crate::serve::client::Tagged;
use crate::types::{Answer, TrackId};

/// Give an object in a camera's picture an identity.
///
/// The daemon remembers what the object looks like in that frame, and follows it from there: every later frame
/// tells its box, mask and state under the id that this prints. Pixels are those of the camera's own picture, with
/// 0,0 at its top left; `tagalong snapshot` shows it. A mask is best, for it holds nothing but the object; a tight
/// box is good; a point takes what looks alike around it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("object").required(true).args(["bounds", "point", "mask", "gallery", "proposal"])))]
pub struct Args {
    /// A rectangle around the object, in pixels
    #[arg(long = "box", value_name = "X,Y,W,H", value_parser = parse_box, allow_hyphen_values = true)]
    bounds: Option<[f32; 4]>,
    /// A point on the object, in pixels
    #[arg(long, value_name = "X,Y", value_parser = parse_point, allow_hyphen_values = true)]
    point: Option<[f32; 2]>,
    /// A picture of the frame's size in which everything but the object is black
    #[arg(long, value_name = "FILE.png")]
    mask: Option<std::path::PathBuf>,
    /// The name of what the gallery knows, to be found in the picture by what it looks like
    ///
    /// The daemon looks for what is in the gallery of its own accord. This looks now, also for what was untagged.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "seq", "save"])]
    gallery: Option<String>,
    /// The id of a proposal, which becomes a tag: what the daemon found by itself, if `discover.mode` is set
    #[arg(long, value_name = "ID", conflicts_with_all = ["seq", "camera"])]
    proposal: Option<u64>,
    /// What to call the object [default: chosen by the daemon]
    #[arg(long)]
    name: Option<String>,
    /// Put it into the gallery, so that it is recognised later without a tag, after a restart too
    #[arg(long)]
    save: bool,
    /// The camera; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// The frame that the pixels were seen in, by its `seq` in a report [default: the newest]
    ///
    /// For programs: what was pointed at in a frame may have moved by the time that the command arrives. The last
    /// few frames are remembered.
    #[arg(long)]
    seq: Option<u64>,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

const EXAMPLES: &str = "\
EXAMPLES
  By a box: its left edge, its top, its width and its height:
      tagalong tag --box 200,120,90,140 --name cup

  By a point, where there are two cameras:
      tagalong tag --camera front --point 245,190

  By a mask, in the very frame that it was drawn on:
      tagalong tag --mask cup.png --seq 4711

  To be recognised whenever it appears, from now on:
      tagalong tag --box 200,120,90,140 --name cup --save

  What the daemon proposes (see `tagalong list`):
      tagalong tag --proposal 12 --name cup

  Keep the id for a script:
      id=$(tagalong tag --box 200,120,90,140 --json | jq .track.id)";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let camera = self.camera.as_deref();
        let pointed = match (self.bounds, self.point, self.mask) {
            (Some(bounds), _, _) => Some(Pointed::Box(bounds)),
            (_, Some(point), _) => Some(Pointed::Point(point)),
            (_, _, Some(file)) => Some(Pointed::Mask(file)),
            _ => None,
        };
        let name = self.name.as_deref();
        let tagged = match (pointed, &self.gallery, self.proposal) {
            (Some(pointed), ..) => {
                let seed = pointed.seed()?;
                self.daemon.control()?.tag(camera, seed, name, self.seq, self.save)?
            }
            (None, Some(known), _) => self.daemon.control()?.recognise(camera, known)?,
            (None, None, Some(id)) => self.daemon.control()?.accept(TrackId(id), name, self.save)?,
            (None, None, None) => unreachable!("clap asks for one of the five"),
        };
        if self.json {
            let Tagged { camera, seq, track } = tagged;
            return out::json(&Answer::Tagged { camera, seq, track });
        }
        out::line(describe(&tagged))
    }
}

fn describe(tagged: &Tagged) -> String {
    let Tagged { camera, seq, track } = tagged;
    let at = match track.bounds {
        Some([x, y, w, h]) => format!("{w:.0}x{h:.0} pixels at {x:.0},{y:.0}"),
        None => "nothing of it is seen yet".into(),
    };
    format!("tagged {} as track {} in frame {seq} of {camera}: {at}", out::harmless(&track.name), track.id)
}
