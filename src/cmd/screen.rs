//! Lines at the end of a terminal that are drawn over themselves.

use std::time::{Duration, Instant};

use super::out;

/// No eye follows more, and a slow connection carries no more.
const INTERVAL: Duration = Duration::from_millis(100);

/// Draws lines in place, at most ten times a second. The cursor stays below them and visible, so that nothing has
/// to be restored, however the program ends.
#[derive(Debug, Default)]
pub struct Screen {
    /// Lines that were drawn last.
    drawn: usize,
    last: Option<Instant>,
}

impl Screen {
    /// How long to wait until the next drawing is due.
    pub fn wait(&self, now: Instant) -> Duration {
        self.last.map_or(Duration::ZERO, |last| INTERVAL.saturating_sub(now.duration_since(last)))
    }

    /// Columns of the terminal.
    pub fn width(&self) -> usize {
        usize::from(console::Term::stdout().size().1)
    }

    /// Draws `lines` over those that were drawn last.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn draw(&mut self, lines: &[String], now: Instant) -> anyhow::Result<()> {
        // What has scrolled off the top cannot be drawn over.
        let rows = usize::from(console::Term::stdout().size().0);
        let lines = &lines[..lines.len().min(rows.saturating_sub(1))];
        out::print(&over(self.drawn, lines))?;
        self.drawn = lines.len();
        self.last = Some(now);
        Ok(())
    }
}

/// The text that draws `lines` over the `drawn` lines above the cursor. It is written at once, so that nothing
/// flickers.
fn over(drawn: usize, lines: &[String]) -> String {
    let up = if drawn > 0 { format!("\x1b[{drawn}A\r") } else { String::new() };
    let body: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("{up}{body}\x1b[J")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn_over_the_last_ones() {
        assert_eq!(over(0, &["a".into(), "b".into()]), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(over(2, &["c".into()]), "\x1b[2A\rc\x1b[K\n\x1b[J");
    }

    #[test]
    fn drawings_are_a_tenth_of_a_second_apart() {
        let now = Instant::now();
        assert_eq!(Screen::default().wait(now), Duration::ZERO);
        let screen = Screen { drawn: 0, last: Some(now) };
        assert_eq!(screen.wait(now + Duration::from_millis(30)), Duration::from_millis(70));
        assert_eq!(screen.wait(now + Duration::from_millis(130)), Duration::ZERO);
    }
}
