//! What a study found, as pictures.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::report::{Judged, Report};
use super::{CLEAN, ModelStudy, Treatment};
use crate::eval::Degradation;

/// The plots of a report, each with its file's name, as SVG.
///
/// # Errors
/// What the drawing library says.
pub fn plots(report: &Report) -> Result<Vec<(String, String)>, String> {
    let studied: Vec<&ModelStudy> = report.models.iter().filter(|model| model.treatments().len() > 1).collect();
    let mut plots = Vec::new();
    if studied.iter().any(|model| dropped(model).len() > 1) {
        plots.push(("dropped.svg".into(), over_dropped(&studied)?));
    }
    for model in studied.into_iter().filter(|model| model.pictures().len() > 1) {
        plots.push((format!("degraded-{}.svg", model.name), over_degradation(model)?));
    }
    Ok(plots)
}

/// One line: its name, and scores at places.
type Line = (String, Vec<(f64, f64)>);

/// Pixels of one panel.
const PANEL: (u32, u32) = (420, 300);
/// Pixels below the panels where the lines are named, a row for each.
const NAME: u32 = 20;

/// How many dimensions were dropped, and what that treatment is called.
fn dropped(model: &ModelStudy) -> Vec<(usize, &str)> {
    let count = |name: &str| match name {
        name if name == Treatment::AsTheyAre.to_string() => Some(0),
        name => name.strip_prefix("drop ").and_then(|count| count.parse().ok()),
    };
    model.treatments().into_iter().filter_map(|name| Some((count(name)?, name))).collect()
}

/// A panel a task: scores over the number of dropped dimensions, a line a model.
fn over_dropped(models: &[&ModelStudy]) -> Result<String, String> {
    let panels: Vec<Panel> = Judged::TASKS
        .into_iter()
        .chain([Judged::Overall])
        .map(|judged| {
            let line = |model: &&ModelStudy| {
                let point = |(count, name): (usize, &str)| {
                    Some(((count as f64 + 1.0).log2(), judged.of(model.scores(CLEAN, name)?)?))
                };
                (model.name.clone(), dropped(model).into_iter().filter_map(point).collect())
            };
            let label = |x: &f64| format!("{:.0}", x.exp2() - 1.0);
            Panel {
                title: judged.name(),
                x: "dimensions dropped",
                lines: models.iter().map(line).collect(),
                label: Box::new(label),
            }
        })
        .collect();
    draw(&panels)
}

/// A panel a kind of degradation: the mean of the tasks over its strength, a line a treatment.
fn over_degradation(model: &ModelStudy) -> Result<String, String> {
    let pictures = model.pictures();
    let of_kind = |kind: &str| -> Vec<(String, &str)> {
        let strength = |name: &&str| Degradation::parse(name).ok().filter(|d| d.kind() == kind);
        let degraded = pictures.iter().filter_map(|name| Some((strength(name)?.strength().to_string(), *name)));
        std::iter::once(("none".to_owned(), CLEAN)).chain(degraded).collect()
    };
    let panel = |kind: &'static str| {
        let steps = of_kind(kind);
        let line = |treatment: &&str| {
            let point = |(at, (_, pictures)): (usize, &(String, &str))| {
                Some((at as f64, Judged::Overall.of(model.scores(pictures, treatment)?)?))
            };
            ((*treatment).to_owned(), steps.iter().enumerate().filter_map(point).collect())
        };
        let lines = model.treatments().iter().map(line).collect();
        let names: Vec<String> = steps.iter().map(|(strength, _)| strength.clone()).collect();
        // Labels stand at the steps alone.
        let label = move |x: &f64| {
            let at = x.round();
            if (x - at).abs() < 0.01 { names.get(at as usize).cloned().unwrap_or_default() } else { String::new() }
        };
        Panel { title: format!("{}: {kind}", model.name), x: "strength", lines, label: Box::new(label) }
    };
    let kinds = ["blur", "noise", "brightness", "rotation"].into_iter().filter(|kind| of_kind(kind).len() > 1);
    draw(&kinds.map(panel).collect::<Vec<_>>())
}

struct Panel {
    title: String,
    x: &'static str,
    lines: Vec<Line>,
    /// What stands below the axis.
    label: Box<dyn Fn(&f64) -> String>,
}

/// Panels side by side, two in a row, and the names of the lines below them.
fn draw(panels: &[Panel]) -> Result<String, String> {
    let columns = panels.len().min(2) as u32;
    let rows = panels.len().div_ceil(2) as u32;
    let names: Vec<&str> = panels[0].lines.iter().map(|(name, _)| name.as_str()).collect();
    let legend = NAME * names.len() as u32 + 10;
    let mut svg = String::new();
    {
        let size = (PANEL.0 * columns, PANEL.1 * rows + legend);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        let (above, below) = root.split_vertically(PANEL.1 * rows);
        for (area, panel) in above.split_evenly((rows as usize, columns as usize)).iter().zip(panels) {
            panel.draw(area)?;
        }
        for (at, name) in names.iter().enumerate() {
            let y = (NAME * at as u32 + NAME / 2) as i32;
            below.draw(&PathElement::new(vec![(40, y), (70, y)], colour(at).stroke_width(2))).map_err(text)?;
            below.draw(&Text::new((*name).to_owned(), (80, y - 7), ("sans-serif", 13))).map_err(text)?;
        }
        root.present().map_err(text)?;
    }
    Ok(svg)
}

impl Panel {
    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), String> {
        let places = || self.lines.iter().flat_map(|(_, points)| points);
        let right = places().map(|(x, _)| *x).fold(1.0, f64::max);
        let (low, high) = places().fold((1.0f64, 0.0f64), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
        let (low, high) = ((low * 20.0).floor() / 20.0, (high * 20.0).ceil() / 20.0);
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .caption(&self.title, ("sans-serif", 15))
            .x_label_area_size(35)
            .y_label_area_size(45)
            .build_cartesian_2d(0.0..right, low..high.max(low + 0.05))
            .map_err(text)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(self.x)
            .x_labels(9)
            .y_labels(6)
            .x_label_formatter(&*self.label)
            .y_label_formatter(&|y| format!("{y:.2}"))
            .draw()
            .map_err(text)?;
        for (at, (_, points)) in self.lines.iter().enumerate() {
            let style = colour(at).stroke_width(2);
            chart.draw_series(LineSeries::new(points.iter().copied(), style)).map_err(text)?;
            let dots = points.iter().map(|point| Circle::new(*point, 3, colour(at).filled()));
            chart.draw_series(dots).map_err(text)?;
        }
        Ok(())
    }
}

/// Colours that those who see few can tell apart (Paul Tol's bright scheme), then darker.
fn colour(line: usize) -> RGBColor {
    const COLOURS: [(u8, u8, u8); 7] = [
        (0x44, 0x77, 0xaa),
        (0xee, 0x66, 0x77),
        (0x22, 0x88, 0x33),
        (0xcc, 0xbb, 0x44),
        (0x66, 0xcc, 0xee),
        (0xaa, 0x33, 0x77),
        (0xbb, 0xbb, 0xbb),
    ];
    let (r, g, b) = COLOURS[line % COLOURS.len()];
    let darker = 1 + (line / COLOURS.len()) as u8;
    RGBColor(r / darker, g / darker, b / darker)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
