use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::daemon::Daemon;
use super::exit::{Kind, failure};
use super::out;
use crate::types::command::GalleryObject;
use crate::types::{Answer, Command as Ask};

/// Keep what objects look like, so that they are recognised without being tagged again.
///
/// The gallery lies in the daemon's state folder. What is in it is looked for in every camera's picture, after a restart
/// too, and becomes a track under its name where it is seen. While it is followed, and surely seen, the daemon goes on to
/// learn what it looks like. Objects are known by the features of one model, and mean nothing to another.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print the daemon's answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

const EXAMPLES: &str = "\
EXAMPLES
  Tag a cup, and keep it:
      tagalong tag --box 200,120,90,140 --name cup --save

  What is kept:
      tagalong gallery list

  Take it to another robot, which runs the same model:
      tagalong gallery export cup cup.safetensors
      tagalong gallery import cup.safetensors

  It was saved twice, from two sides:
      tagalong gallery merge 'cup from behind' cup";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the objects of the gallery
    ///
    /// One line for each, with how many patches of it and of other things it is known by, under which id each camera
    /// knows it, and what keeps it from being used, if anything does.
    #[command(
        after_long_help = "EXAMPLES\n  The names alone:\n      tagalong gallery list --json | jq -r '.gallery[].name'"
    )]
    List,
    /// Tell all that is known about one object
    ///
    /// When it was saved and last learnt from, by which model, how many patches it is known by, and where it is followed.
    #[command(after_long_help = "EXAMPLES\n  What is known of the cup:\n      tagalong gallery show cup")]
    Show {
        /// Its name
        name: String,
    },
    /// Put a track into the gallery
    ///
    /// It is kept under the track's name, or another one that is given. `tag --save` does the same at once.
    #[command(
        after_long_help = "EXAMPLES\n  Keep track 3 as the blue cup:\n      tagalong gallery save 3 --name 'blue cup'"
    )]
    Save {
        /// The track's id, as `tagalong list` tells it
        id: u64,
        /// What to call it [default: the track's name]
        #[arg(long)]
        name: Option<String>,
    },
    /// Give an object another name
    ///
    /// Tracks of it are called so from then on, on every camera.
    #[command(after_long_help = "EXAMPLES\n  Call the cup the blue cup:\n      tagalong gallery rename cup 'blue cup'")]
    Rename {
        /// Its name
        name: String,
        /// Its new name
        to: String,
    },
    /// Make one object of two that are the same thing
    ///
    /// The second is then known by what both were, and the first is no more. Tracks of the first go on, as tracks of nothing
    /// that is kept.
    #[command(
        after_long_help = "EXAMPLES\n  One cup, seen from two sides:\n      tagalong gallery merge 'cup from behind' cup"
    )]
    Merge {
        /// The one that is no more
        name: String,
        /// The one that stays
        into: String,
    },
    /// Remove an object from the gallery
    ///
    /// Tracks of it go on until they end; it is not recognised again.
    #[command(after_long_help = "EXAMPLES\n  Forget the cup:\n      tagalong gallery forget cup")]
    Forget {
        /// Its name
        name: String,
    },
    /// Write an object to a file, for another gallery
    ///
    /// The file is of the safetensors format.
    #[command(after_long_help = "EXAMPLES\n  Take the cup along:\n      tagalong gallery export cup cup.safetensors")]
    Export {
        /// Its name
        name: String,
        /// The file to write; `-` for standard output
        file: PathBuf,
    },
    /// Take in an object that another gallery exported
    ///
    /// It is looked for at once, where the daemon runs the model that it was saved with.
    #[command(
        after_long_help = "EXAMPLES\n  Take in the cup as the robot's cup:\n      tagalong gallery import cup.safetensors --name 'robot cup'"
    )]
    Import {
        /// The file to read; `-` for standard input
        file: PathBuf,
        /// What to call it [default: the name that it has]
        #[arg(long)]
        name: Option<String>,
    },
}

/// Bytes that are read of a file, at most: the daemon takes no more.
const MAX_BYTES: u64 = 768 * 1024;

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let mut control = self.daemon.control()?;
        let (ask, told) = match self.command {
            Command::List => (Ask::Gallery, None),
            Command::Show { name } => {
                let gallery = control.gallery(&Ask::Gallery)?;
                let found = gallery.into_iter().find(|object| object.name == name);
                let unknown = || failure(Kind::Data, format!("the gallery has nothing called {name:?}"));
                let object = found.ok_or_else(unknown)?;
                return if self.json { out::json(&object) } else { out::print(&details(&object)) };
            }
            Command::Export { name, file } => {
                let object = control.gallery_export(&name)?;
                write(&file, &object)?;
                let is_silent = file.as_os_str() == "-";
                return if is_silent {
                    Ok(())
                } else {
                    out::line(format!("{} written to {}", out::harmless(&name), file.display()))
                };
            }
            Command::Save { id, name } => {
                (Ask::Save { id: crate::types::TrackId(id), name }, Some(format!("track {id} is kept in the gallery")))
            }
            Command::Rename { name, to } => {
                let told = format!("{} is called {} now", out::harmless(&name), out::harmless(&to));
                (Ask::GalleryRename { name, to }, Some(told))
            }
            Command::Merge { name, into } => {
                let told = format!("{} is part of {} now", out::harmless(&name), out::harmless(&into));
                (Ask::GalleryMerge { name, into }, Some(told))
            }
            Command::Forget { name } => {
                let told = format!("{} is forgotten", out::harmless(&name));
                (Ask::GalleryForget { name }, Some(told))
            }
            Command::Import { file, name } => (
                Ask::GalleryImport { object: read(&file)?, name },
                Some(format!("{} is in the gallery now", file.display())),
            ),
        };
        let gallery = control.gallery(&ask)?;
        match told {
            _ if self.json => out::json(&Answer::Gallery { gallery }),
            Some(told) => out::line(told),
            None if gallery.is_empty() => {
                out::line("the gallery is empty; `tagalong tag --save` puts an object into it")
            }
            None => out::print(&render(&gallery)),
        }
    }
}

fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if file.as_os_str() == "-" {
        return out::bytes(bytes);
    }
    let written = std::fs::File::create(file).and_then(|mut created| created.write_all(bytes));
    written.map_err(|error| failure(Kind::CantCreate, format!("{}: {error}", file.display())))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|opened| opened.take(MAX_BYTES + 1).read_to_end(&mut bytes)),
    };
    read.with_context(|| file.display().to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("{}: it holds more than the {MAX_BYTES} bytes that an object may have", file.display());
        return Err(failure(Kind::Data, message));
    }
    Ok(bytes)
}

/// The cameras that know an object, each with the id of its track.
fn tracks(object: &GalleryObject) -> String {
    let each = object.tracks.iter().map(|(camera, id)| format!("{}:{id}", out::harmless(camera)));
    each.collect::<Vec<_>>().join(" ")
}

fn render(gallery: &[GalleryObject]) -> String {
    let head = ["NAME", "MODEL", "KNOWN BY", "TRACKS", "PROBLEM OR REMARK"].map(str::to_owned);
    let row = |object: &GalleryObject| {
        let [own, others] = object.exemplars;
        [
            out::harmless(&object.name),
            out::harmless(&object.model),
            format!("{own}+{others}"),
            tracks(object),
            object.problem.as_ref().or(object.remark.as_ref()).map(|text| out::harmless(text)).unwrap_or_default(),
        ]
    };
    out::columns(&std::iter::once(head).chain(gallery.iter().map(row)).collect::<Vec<_>>())
}

fn details(object: &GalleryObject) -> String {
    let [own, others] = object.exemplars;
    let lines = [
        ("name", out::harmless(&object.name)),
        ("model", out::harmless(&object.model)),
        ("known by", format!("{own} patches of it, {others} of other things")),
        ("pictures", object.size.map_or("of unknown size".into(), |[width, height]| format!("{width}x{height}"))),
        ("tracks", tracks(object)),
        ("saved", out::moment(object.saved_ns)),
        ("changed", out::moment(object.changed_ns)),
        ("problem", object.problem.as_deref().map_or("none".into(), out::harmless)),
        ("remark", object.remark.as_deref().map_or("none".into(), out::harmless)),
    ];
    out::columns(&lines.map(|(key, value)| [key.to_owned(), value]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TrackId;

    #[test]
    fn objects_are_listed_in_columns_with_what_is_wrong() {
        let object = |name: &str, problem: Option<&str>| GalleryObject {
            name: name.into(),
            model: "bundled".into(),
            exemplars: [64, 128],
            size: Some([640, 480]),
            tracks: [("front".to_owned(), TrackId(3))].into(),
            saved_ns: 1_767_225_600_000_000_000,
            changed_ns: 0,
            problem: problem.map(str::to_owned),
            remark: None,
        };
        let expected = "\
NAME      MODEL    KNOWN BY  TRACKS   PROBLEM OR REMARK
blue cup  bundled  64+128    front:3  
cup       bundled  64+128    front:3  it is of another model
";
        let rendered = render(&[object("blue cup", None), object("cup", Some("it is of another model"))]);
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(&rendered), trimmed(expected));
        let resized = GalleryObject { remark: Some("saved at another size".into()), ..object("cup", None) };
        assert!(render(std::slice::from_ref(&resized)).contains("another size"));
        assert!(details(&resized).contains("another size"));
        let details = details(&object("cup", None));
        for part in ["640x480", "64 patches of it, 128 of other things", "2026-01-01T00:00:00Z", "front:3", "none"] {
            assert!(details.contains(part), "{part}: {details}");
        }
    }
}
