//! A table of tracks as they are now, from reports to lines of a terminal. No I/O and no clock: tests read it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use console::{Color, Style, measure_text_width, truncate_str};

use super::out::harmless;
use crate::types::report::{Latency, Reason, Track};
use crate::types::{TrackId, TrackReport, TrackState};

/// Over which time rates and latencies are averaged.
const WINDOW: Duration = Duration::from_secs(2);
/// How long a track that is gone stays in the table, so that it can be seen to go.
const FAREWELL: Duration = Duration::from_secs(3);
/// A camera without reports for this long is said to be silent.
const SILENCE: Duration = Duration::from_secs(2);
/// Cells of the bar that shows a score.
const BAR: usize = 8;

/// What the newest reports of every camera say.
#[derive(Debug, Default)]
pub struct Table {
    cameras: BTreeMap<String, Camera>,
    /// Reports that were lost on the way here.
    missed: u64,
}

#[derive(Debug)]
struct Camera {
    report: TrackReport,
    /// When the newest report came.
    at: Instant,
    /// Frames lost since the first report.
    dropped: u64,
    /// When each report of the last [`WINDOW`] came, and its latency.
    recent: VecDeque<(Instant, Latency)>,
    /// Tracks that are gone, and when they went.
    departed: BTreeMap<TrackId, (Instant, Track)>,
}

impl Table {
    /// Takes in a report that came at `now`.
    pub fn update(&mut self, report: &TrackReport, now: Instant) {
        let camera = self.cameras.entry(report.camera.clone()).or_insert_with(|| Camera {
            report: report.clone(),
            at: now,
            dropped: 0,
            recent: VecDeque::new(),
            departed: BTreeMap::new(),
        });
        camera.report = report.clone();
        camera.at = now;
        camera.dropped += report.dropped;
        camera.recent.push_back((now, report.latency_ms));
        camera.recent.retain(|(at, _)| now.duration_since(*at) <= WINDOW);
        camera.departed.retain(|_, (at, _)| now.duration_since(*at) < FAREWELL);
        let gone = camera.report.tracks.extract_if(.., |track| track.state == TrackState::Removed);
        camera.departed.extend(gone.map(|track| (track.id, (now, track))));
    }

    /// Counts reports that were lost on the way here.
    pub fn missed(&mut self, reports: u64) {
        self.missed += reports;
    }

    /// The lines to show at `now`, none wider than `width` columns. Columns that do not fit are left out, the least
    /// important first.
    pub fn lines(&self, now: Instant, width: usize, coloured: bool) -> Vec<String> {
        let style = |style: Style| style.force_styling(coloured);
        let rows: Vec<Row> = self.cameras.values().flat_map(|camera| camera.rows(now)).collect();
        let columns = fitting(&rows, self.cameras.len() > 1, width);
        let mut lines = Vec::new();
        if rows.is_empty() {
            let hint = match self.cameras.is_empty() {
                true => "waiting for a camera's first frame",
                false => "no object is tagged; tag one with `tagalong tag --box X,Y,W,H`",
            };
            lines.push(style(Style::new().dim()).apply_to(hint).to_string());
        } else {
            let head: Vec<String> =
                columns.iter().map(|(column, width)| pad(column.title(), *width, *column)).collect();
            lines.push(style(Style::new().bold()).apply_to(head.join("  ")).to_string());
        }
        for row in &rows {
            let cells = columns.iter().map(|(column, width)| {
                let cell = pad(&row.cells[*column as usize], *width, *column);
                let plain = !matches!(column, Column::State | Column::Score);
                if plain { cell } else { style(Style::new().fg(colour(row.state))).apply_to(cell).to_string() }
            });
            lines.push(cells.collect::<Vec<_>>().join("  "));
        }
        lines.push(String::new());
        let name_width = self.cameras.keys().map(|name| measure_text_width(&harmless(name))).max().unwrap_or(0);
        for (name, camera) in &self.cameras {
            let name = pad(&harmless(name), name_width, Column::Camera);
            let (text, silent) = camera.footer(now);
            let colour = if silent { Style::new().red() } else { Style::new().dim() };
            lines.push(style(colour).apply_to(format!("{name}  {text}")).to_string());
        }
        if self.missed > 0 {
            let text = format!("{} reports were missed: this terminal does not keep up", self.missed);
            lines.push(style(Style::new().yellow()).apply_to(text).to_string());
        }
        lines.iter().map(|line| truncate_str(line.trim_end(), width, "…").into_owned()).collect()
    }
}

impl Camera {
    fn rows(&self, now: Instant) -> Vec<Row> {
        let departed = self.departed.values().filter(|(at, _)| now.duration_since(*at) < FAREWELL);
        let mut tracks: Vec<&Track> = self.report.tracks.iter().chain(departed.map(|(_, track)| track)).collect();
        tracks.sort_by_key(|track| track.id);
        tracks.into_iter().map(|track| Row::new(&self.report.camera, track)).collect()
    }

    /// What the line below the table says, and whether the camera is silent.
    fn footer(&self, now: Instant) -> (String, bool) {
        let [width, height] = self.report.size;
        let silence = now.duration_since(self.at);
        if silence >= SILENCE {
            return (format!("{width}x{height}  no frame for {}", duration_words(silence)), true);
        }
        let mut text = format!("{width}x{height}  {:.1} fps", self.fps());
        let mean = |stage: fn(&Latency) -> f32| {
            self.recent.iter().map(|(_, latency)| stage(latency)).sum::<f32>() / self.recent.len().max(1) as f32
        };
        type Stage = (&'static str, fn(&Latency) -> f32);
        let stages: [Stage; 5] = [
            ("queue", |latency| latency.queue),
            ("preprocess", |latency| latency.preprocess),
            ("embed", |latency| latency.embed),
            ("propagate", |latency| latency.propagate),
            ("track", |latency| latency.track),
        ];
        text.push_str(&format!("  {:.0} ms from capture", mean(|latency| latency.total)));
        for (i, (name, stage)) in stages.into_iter().enumerate() {
            text.push_str(&format!("{}{name} {:.1}", if i == 0 { ": " } else { ", " }, mean(stage)));
        }
        text.push_str(&format!("  {} dropped", self.dropped));
        (text, false)
    }

    /// Reports a second over the last [`WINDOW`].
    fn fps(&self) -> f64 {
        match (self.recent.front(), self.recent.back()) {
            (Some((first, _)), Some((last, _))) if last > first => {
                (self.recent.len() - 1) as f64 / last.duration_since(*first).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

/// The columns, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Camera,
    Id,
    Name,
    State,
    Score,
    Box,
    Velocity,
    Age,
    Seen,
}

impl Column {
    const ALL: [Column; 9] = [
        Column::Camera,
        Column::Id,
        Column::Name,
        Column::State,
        Column::Score,
        Column::Box,
        Column::Velocity,
        Column::Age,
        Column::Seen,
    ];

    /// In which order they go where there is no room; id, name and state stay.
    const LEAST_IMPORTANT: [Column; 6] =
        [Column::Velocity, Column::Age, Column::Seen, Column::Camera, Column::Box, Column::Score];

    fn title(self) -> &'static str {
        match self {
            Column::Camera => "CAMERA",
            Column::Id => "ID",
            Column::Name => "NAME",
            Column::State => "STATE",
            Column::Score => "SCORE",
            Column::Box => "BOX",
            Column::Velocity => "PX/S",
            Column::Age => "AGE",
            Column::Seen => "SEEN",
        }
    }

    /// The width that it has at least, so that the table does not jump with every frame.
    fn least_width(self) -> usize {
        match self {
            Column::State => "tracked (reacquired)".len(),
            Column::Score => 5 + BAR,
            Column::Box => "1280,720 1280x720".len(),
            Column::Velocity => "-1000,-1000".len(),
            Column::Age => 6,
            Column::Seen => "100 frames ago".len(),
            _ => self.title().len(),
        }
    }
}

/// A track's cells, in the order of [`Column::ALL`].
struct Row {
    state: TrackState,
    cells: [String; 9],
}

impl Row {
    fn new(camera: &str, track: &Track) -> Row {
        let seen = track.bounds.is_some();
        let [vx, vy] = track.velocity;
        let cells = [
            harmless(camera),
            track.id.to_string(),
            harmless(&track.name),
            format!("{} ({})", state_word(track.state), reason_words(track.reason)),
            format!("{:.2} {}", track.score, bar(track.score)),
            track.bounds.map_or_else(|| "-".into(), |[x, y, w, h]| format!("{x:.0},{y:.0} {w:.0}x{h:.0}")),
            if seen { format!("{vx:+.0},{vy:+.0}") } else { "-".into() },
            track.age.to_string(),
            seen_words(track.since_seen),
        ];
        Row { state: track.state, cells }
    }
}

/// The columns that fit into `width`, with their widths.
fn fitting(rows: &[Row], several_cameras: bool, width: usize) -> Vec<(Column, usize)> {
    let width_of = |column: Column| {
        let cells = rows.iter().map(|row| measure_text_width(&row.cells[column as usize]));
        cells.max().unwrap_or(0).max(column.least_width())
    };
    let mut columns: Vec<(Column, usize)> = Column::ALL
        .into_iter()
        .filter(|column| *column != Column::Camera || several_cameras)
        .map(|column| (column, width_of(column)))
        .collect();
    let fits = |columns: &[(Column, usize)]| {
        columns.iter().map(|(_, width)| width + 2).sum::<usize>().saturating_sub(2) <= width
    };
    for column in Column::LEAST_IMPORTANT {
        if fits(&columns) {
            break;
        }
        columns.retain(|(kept, _)| *kept != column);
    }
    columns
}

fn pad(text: &str, width: usize, column: Column) -> String {
    let missing = width.saturating_sub(measure_text_width(text));
    match column {
        Column::Id | Column::Age => format!("{:missing$}{text}", ""),
        _ => format!("{text}{:missing$}", ""),
    }
}

/// A bar of [`BAR`] cells for a score in [0, 1], in eighths of a cell.
fn bar(score: f32) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (score.clamp(0.0, 1.0) * (BAR * 8) as f32).round() as usize;
    let rest = if eighths.is_multiple_of(8) { None } else { Some(EIGHTHS[eighths % 8]) };
    std::iter::repeat_n('█', eighths / 8).chain(rest).collect()
}

fn colour(state: TrackState) -> Color {
    match state {
        TrackState::Tentative => Color::Cyan,
        TrackState::Tracked => Color::Green,
        TrackState::Occluded => Color::Yellow,
        TrackState::Lost => Color::Red,
        TrackState::Removed => Color::Magenta,
        TrackState::Proposal => Color::Blue,
    }
}

/// A state, as people read it.
pub fn state_word(state: TrackState) -> &'static str {
    match state {
        TrackState::Tentative => "tentative",
        TrackState::Tracked => "tracked",
        TrackState::Occluded => "occluded",
        TrackState::Lost => "lost",
        TrackState::Removed => "removed",
        TrackState::Proposal => "proposal",
    }
}

/// A reason, as people read it.
pub fn reason_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Tagged => "tagged",
        Reason::Confirmed => "confirmed",
        Reason::Shrunk => "shrunk",
        Reason::Unseen => "unseen",
        Reason::LeftView => "left view",
        Reason::Seen => "seen",
        Reason::Reacquired => "reacquired",
        Reason::Recognised => "recognised",
        Reason::Ambiguous => "ambiguous",
        Reason::TimedOut => "timed out",
        Reason::Untagged => "untagged",
        Reason::Reset => "reset",
        Reason::CameraLost => "camera lost",
        Reason::Proposed => "proposed",
        Reason::Withdrawn => "withdrawn",
    }
}

/// How long ago something was seen, in frames.
pub fn seen_words(since_seen: u64) -> String {
    match since_seen {
        0 => "now".into(),
        1 => "1 frame ago".into(),
        frames => format!("{frames} frames ago"),
    }
}

/// A duration in its two largest units, as "3 h 20 min".
pub fn duration_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub mod tests;
