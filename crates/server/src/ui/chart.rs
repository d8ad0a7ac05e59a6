//! Charts: SVG that is drawn here, of numbers only. What it shows stands beside it in words and in a table.

use std::fmt::{self, Write};
use std::time::Duration;

use askama::filters::HtmlSafe;
use filebell_core::time::TimestampMs;

use super::text::Took;
use crate::ops::Reach;

/// The drawing, in its own units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 6.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;
/// The axis of times begins at a millisecond.
const FASTEST_SECS: f64 = 0.001;

/// How many of something there were in each span.
pub(super) struct Bars {
    /// Unique on the page.
    pub(super) id: &'static str,
    /// What is counted.
    pub(super) title: &'static str,
    /// Something that should not be.
    pub(super) bad: bool,
    /// The spans, oldest first.
    pub(super) counts: Vec<(TimestampMs, u64)>,
    /// What the spans are.
    pub(super) reach: Reach,
}

/// How long something took in each span.
pub(super) struct Lines {
    /// Unique on the page.
    pub(super) id: &'static str,
    /// What took so long.
    pub(super) title: &'static str,
    /// The spans, oldest first: within which time were half, and 95 of a hundred.
    pub(super) times: Vec<(TimestampMs, Option<Duration>, Option<Duration>)>,
    /// What the spans are.
    pub(super) reach: Reach,
}

impl HtmlSafe for Bars {}
impl HtmlSafe for Lines {}

impl fmt::Display for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum: u64 = self.counts.iter().map(|(_, count)| count).sum();
        let most = self.counts.iter().max_by_key(|(_, count)| count).filter(|(_, count)| *count > 0);
        let most = most.map_or_else(
            || "None in this time.".to_owned(),
            |(at, count)| format!("{sum} in all; at most {count}, at {} UTC.", label(*at, self.reach)),
        );
        begin(f, self.id, self.title, &most)?;
        let top = ceiling(self.counts.iter().map(|(_, count)| *count).max().unwrap_or(0));
        for part in [0, top / 2, top] {
            grid(f, y(number(part) / number(top)), &part.to_string())?;
        }
        let slot = (WIDTH - LEFT - RIGHT) / number(self.counts.len() as u64).max(1.0);
        for (place, (at, count)) in self.counts.iter().enumerate() {
            let x = LEFT + slot * number(place as u64);
            mark(f, x + slot / 2.0, *at, place, self.counts.len(), self.reach)?;
            if *count > 0 {
                let above = y(number(*count) / number(top)).min(HEIGHT - BOTTOM - 1.0);
                let class = if self.bad { "bar bad" } else { "bar" };
                write!(
                    f,
                    r#"<rect class="{class}" x="{:.1}" y="{above:.1}" width="{:.1}" height="{:.1}"><title>{}: {count}</title></rect>"#,
                    x + slot * 0.1,
                    slot * 0.8,
                    HEIGHT - BOTTOM - above,
                    label(*at, self.reach)
                )?;
            }
        }
        f.write_str("</svg>")
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slowest = self.times.iter().filter_map(|(_, p50, p95)| (*p95).max(*p50)).max();
        let words = slowest.map_or_else(
            || "None in this time.".to_owned(),
            |slowest| format!("At most {} for 95 of a hundred.", Took(slowest)),
        );
        begin(f, self.id, self.title, &words)?;
        // By tenfolds: from a millisecond to as many as are needed.
        let tenfolds = slowest.map_or(3.0, |slowest| (slowest.as_secs_f64() / FASTEST_SECS).log10().ceil().max(1.0));
        let mut tenfold = 0.0;
        while tenfold <= tenfolds {
            grid(f, y(tenfold / tenfolds), &short(FASTEST_SECS * 10_f64.powf(tenfold)))?;
            tenfold += 1.0;
        }
        let slot = (WIDTH - LEFT - RIGHT) / number(self.times.len() as u64).max(1.0);
        let x = |place: usize| LEFT + slot * (number(place as u64) + 0.5);
        for (place, (at, ..)) in self.times.iter().enumerate() {
            mark(f, x(place), *at, place, self.times.len(), self.reach)?;
        }
        for (class, name, second) in [("line second", "95 of a hundred", true), ("line", "half", false)] {
            let height = |time: Duration| {
                let folds = (time.as_secs_f64().max(FASTEST_SECS) / FASTEST_SECS).log10();
                y((folds / tenfolds).clamp(0.0, 1.0))
            };
            let mut path = String::new();
            let mut dots = String::new();
            let mut drawn = false;
            for (place, (at, p50, p95)) in self.times.iter().enumerate() {
                let Some(time) = (if second { *p95 } else { *p50 }) else {
                    drawn = false;
                    continue;
                };
                let (x, y) = (x(place), height(time));
                write!(path, "{}{x:.1} {y:.1}", if drawn { "L" } else { "M" })?;
                write!(
                    dots,
                    r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="2"><title>{}: {name} within {}</title></circle>"#,
                    label(*at, self.reach),
                    Took(time)
                )?;
                drawn = true;
            }
            write!(f, r#"<path class="{class}" d="{path}"/>{dots}"#)?;
        }
        f.write_str("</svg>")
    }
}

/// The head of a drawing, with its words.
fn begin(f: &mut fmt::Formatter<'_>, id: &str, title: &str, words: &str) -> fmt::Result {
    write!(
        f,
        r#"<svg class="chart" role="img" aria-labelledby="{id}-title {id}-desc" viewBox="0 0 {WIDTH} {HEIGHT}"><title id="{id}-title">{title}</title><desc id="{id}-desc">{words}</desc>"#
    )
}

/// A line across, and what it stands for.
fn grid(f: &mut fmt::Formatter<'_>, y: f64, text: &str) -> fmt::Result {
    let (x, right, base) = (LEFT - 6.0, WIDTH - RIGHT, y + 4.0);
    write!(
        f,
        r#"<line class="axis" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/><text x="{x}" y="{base:.1}" text-anchor="end">{text}</text>"#
    )
}

/// Says below which time it is, so seldom that it can be read.
fn mark(f: &mut fmt::Formatter<'_>, x: f64, at: TimestampMs, place: usize, places: usize, reach: Reach) -> fmt::Result {
    let step = match reach {
        Reach::Hour => 10,
        Reach::Day => 16,
        Reach::Month => 5,
    };
    if !(places - 1 - place).is_multiple_of(step) {
        return Ok(());
    }
    // Days are those of UTC wherever the viewer is.
    let moment = if reach == Reach::Month { String::new() } else { format!(r#" data-time="{at}""#) };
    // The last one stands at the edge.
    let (x, anchor) = if place + 1 == places { (WIDTH - RIGHT, "end") } else { (x, "middle") };
    let base = HEIGHT - 6.0;
    write!(f, r#"<text x="{x:.1}" y="{base}" text-anchor="{anchor}"{moment}>{}</text>"#, label(at, reach))
}

/// A time as it stands below a chart: `17:05`, or `11-22`.
fn label(at: TimestampMs, reach: Reach) -> String {
    let text = at.to_string();
    let part = if reach == Reach::Month { text.get(5..10) } else { text.get(11..16) };
    part.unwrap_or(&text).to_owned()
}

/// The height of a part of the whole.
fn y(part: f64) -> f64 {
    TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - part)
}

/// The next round number that is even: half of it is shown too.
fn ceiling(most: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        for step in [2, 4, 6, 10] {
            let round = unit.saturating_mul(step);
            if round >= most || round == u64::MAX {
                return round;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

/// Seconds as they stand beside a line: `10 ms`, `1 s`, `17 min`.
fn short(secs: f64) -> String {
    match secs {
        ..1.0 => format!("{:.0} ms", secs * 1000.0),
        ..100.0 => format!("{secs:.0} s"),
        ..10_000.0 => format!("{:.0} min", secs / 60.0),
        _ => format!("{:.0} h", secs / 3600.0),
    }
}

/// Charts are drawn no finer than this counts.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_that_is_not_too_small() {
        let ends: Vec<u64> = [0, 1, 2, 3, 5, 7, 11, 60, 61, 1234, u64::MAX].map(ceiling).into();
        assert_eq!(ends, [2, 2, 2, 4, 6, 10, 20, 60, 100, 2000, u64::MAX]);
    }

    #[test]
    fn a_chart_says_in_words_what_it_shows_and_leaves_gaps() {
        let at = |minute: i64| TimestampMs::from_millis(minute * 60_000);
        let bars = Bars {
            id: "a",
            title: "Arrivals",
            bad: false,
            counts: vec![(at(0), 0), (at(1), 3), (at(2), 0)],
            reach: Reach::Hour,
        };
        let text = bars.to_string();
        assert!(text.contains("<desc id=\"a-desc\">3 in all; at most 3, at 00:01 UTC.</desc>"), "{text}");
        assert_eq!(text.matches("<rect").count(), 1);
        let time = Some(Duration::from_millis(10));
        let lines = Lines {
            id: "b",
            title: "Times",
            times: vec![(at(0), time, time), (at(1), None, None), (at(2), time, time)],
            reach: Reach::Hour,
        };
        let text = lines.to_string();
        assert_eq!(text.matches('M').count(), 4, "two lines of two pieces: {text}");
        assert!(text.contains("half within 10 ms"), "{text}");
    }
}
