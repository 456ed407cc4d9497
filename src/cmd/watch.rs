use std::time::{Duration, Instant};

use super::changes::Changes;
use super::daemon::Daemon;
use super::exit::{Kind, failure};
use super::out;
use super::screen::Screen;
use super::table::Table;
use crate::serve::client::{ClientError, Event, TracksClient};
use crate::serve::wire::{ServerLine, Subscribe};

/// Watch the tracks as they move.
///
/// On a terminal this shows a table that is drawn anew up to ten times a second: every track with its state and why
/// it is in it, its score, its box and speed in the camera's pixels, its age in frames and when it was last seen;
/// below, each camera's frame rate, where the time from capture to report goes, and how many frames were lost.
/// Elsewhere it prints a line for each change of a track's state. With --json it prints every report as it comes
/// over the socket, a line each. Ctrl-C ends it; the daemon does not mind.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Only this camera; may be given several times
    #[arg(long = "camera", value_name = "NAME")]
    cameras: Vec<String>,
    /// Print reports as JSON, one a line
    #[arg(long)]
    json: bool,
    /// Ask for masks, in COCO's run-length encoding
    #[arg(long, requires = "json")]
    masks: bool,
    /// Reports a second of each camera at most [default: all of them]
    #[arg(long, value_name = "HERTZ", value_parser = parse_rate)]
    max_rate: Option<f64>,
    #[command(flatten)]
    daemon: Daemon,
}

const EXAMPLES: &str = "\
EXAMPLES
  A live table of everything:
      tagalong watch

  The centre of track 3, twice a second:
      tagalong watch --json --max-rate 2 | jq -c '.tracks[]? | select(.id == 3) | .centroid'

  A log of what comes and goes at the door:
      tagalong watch --camera door | tee door.log

  One report:
      tagalong watch --json | head -1";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let mut client = self.daemon.tracks()?;
        let cameras = (!self.cameras.is_empty()).then_some(self.cameras);
        client.subscribe(Subscribe { id: None, cameras, masks: self.masks, max_rate: self.max_rate })?;
        wait_until_subscribed(&mut client)?;
        if self.json {
            print_json(&mut client)
        } else if out::is_terminal() {
            draw_table(&mut client)
        } else {
            print_changes(&mut client)
        }
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && *rate <= 1000.0);
    rate.ok_or_else(|| "a rate is a number above 0 and at most 1000, in reports a second".into())
}

/// Leaves out what came before the subscription: it may be of other cameras.
fn wait_until_subscribed(client: &mut TracksClient) -> anyhow::Result<()> {
    loop {
        match next(client, Duration::from_secs(20))? {
            Some(Event::Subscribed(_)) => return Ok(()),
            Some(_) => {}
            None => return Err(ClientError::Timeout.into()),
        }
    }
}

/// The next event; `None` when there was none in time.
fn next(client: &mut TracksClient, timeout: Duration) -> anyhow::Result<Option<Event>> {
    match client.next_event(timeout) {
        Ok(Some(Event::Error(error))) => Err(ClientError::Refused(error.into()).into()),
        Ok(Some(event)) => Ok(Some(event)),
        Ok(None) => Err(failure(Kind::Unavailable, "the daemon has stopped")),
        Err(ClientError::Timeout) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn print_json(client: &mut TracksClient) -> anyhow::Result<()> {
    loop {
        match next(client, Duration::from_secs(60))? {
            Some(Event::Tracks(tracks)) => out::json(&ServerLine::Tracks(tracks))?,
            Some(Event::Gap(gap)) => out::json(&ServerLine::Gap(gap))?,
            _ => {}
        }
    }
}

fn print_changes(client: &mut TracksClient) -> anyhow::Result<()> {
    let mut changes = Changes::default();
    loop {
        match next(client, Duration::from_secs(60))? {
            Some(Event::Tracks(tracks)) => changes.lines(&tracks.report).iter().try_for_each(out::line)?,
            Some(Event::Gap(gap)) => out::line(format!("{} reports were missed", gap.dropped))?,
            _ => {}
        }
    }
}

fn draw_table(client: &mut TracksClient) -> anyhow::Result<()> {
    let (mut table, mut screen, coloured) = (Table::default(), Screen::default(), out::is_coloured());
    loop {
        let event = next(client, screen.wait(Instant::now()).max(Duration::from_millis(1)))?;
        let now = Instant::now();
        match event {
            Some(Event::Tracks(tracks)) => table.update(&tracks.report, now),
            Some(Event::Gap(gap)) => table.missed(gap.dropped),
            _ => {}
        }
        if screen.wait(now).is_zero() {
            screen.draw(&table.lines(now, screen.width(), coloured), now)?;
        }
    }
}
