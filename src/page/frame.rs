//! What all pictures have in common: axes with their numbers, paths, the legend's signs, and the SVG around them.

use super::axis::Tick;
use super::{COLOURS, Table};
use maud::{Markup, Render, html};
use std::fmt::Write;

/// The width of every picture in its own units; the page scales it.
pub(super) const WIDTH: f64 = 800.0;
/// Labels that fit along x.
pub(super) const X_ROOM: usize = 11;
/// Of a character of a tick's label: the digits of a wide font, DejaVu Sans, as large as on a narrow page.
const CHARACTER: f64 = 7.8;
/// From the lower end of what is drawn to the picture's: labels and the title of x.
const FOOT: f64 = 45.0;

/// A picture, to be put into a page.
#[derive(Debug)]
pub(super) struct Picture {
    /// Which kind.
    pub(super) class: &'static str,
    pub(super) height: f64,
    /// SVG elements.
    pub(super) body: Markup,
    pub(super) legend: Vec<Entry>,
    /// For those who do not see it.
    pub(super) description: String,
    pub(super) table: Option<Table>,
}

/// A line of the legend.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sign: Markup,
    pub(super) text: String,
}

/// Where things are within a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// Room between the lower end and the labels of x.
    pub(super) below: f64,
}

impl Frame {
    /// A frame of this height with room for the labels.
    pub(super) fn new(height: f64, x: &[Tick], y: &[Tick]) -> Self {
        let longest = y.iter().filter_map(|tick| tick.label.as_deref()).map(text_width).fold(0.0, f64::max);
        let left = (longest + 12.0).max(44.0);
        let last = x.iter().rev().find_map(|tick| Some((tick.place, text_width(tick.label.as_deref()?))));
        let right = last.map_or(8.0, |(place, width)| (width / 2.0 - (1.0 - place) * 600.0).max(8.0));
        Self { left, top: 26.0, width: WIDTH - left - right, height, below: 0.0 }
    }

    pub(super) fn x(&self, place: f64) -> f64 {
        self.left + place * self.width
    }

    pub(super) fn y(&self, place: f64) -> f64 {
        self.top + (1.0 - place) * self.height
    }

    /// Of the whole picture.
    pub(super) fn total_height(&self) -> f64 {
        self.top + self.height + self.below + FOOT
    }

    /// Lines, labels and titles. That of y stands above it: read without turning one's head, and as long as it likes.
    pub(super) fn axes(&self, (x, x_title): (&[Tick], &str), (y, y_title): (&[Tick], &str)) -> Markup {
        let foot = self.top + self.height + self.below;
        html! {
            g class="axes" {
                @for tick in y {
                    path class=(line_class(tick)) d={ "M" (Px(self.left)) " " (Px(self.y(tick.place))) "h" (Px(self.width)) } {}
                }
                @for tick in x {
                    path class=(line_class(tick)) d={ "M" (Px(self.x(tick.place))) " " (Px(self.top)) "v" (Px(self.height)) } {}
                }
                path class="edge" d={ "M" (Px(self.left)) " " (Px(self.top + self.height)) "h" (Px(self.width)) } {}
                @for (place, label) in apart(y, self.height, |_| 15.0) {
                    text class="tick end" x=(Px(self.left - 6.0)) y=(Px(self.y(place) + 4.0)) { (label) }
                }
                @for (place, label) in apart(x, self.width, |label| text_width(label) + 6.0) {
                    text class="tick middle" x=(Px(self.x(place))) y=(Px(foot + 19.0)) { (label) }
                }
                @if !y_title.is_empty() { text class="title" x="2" y="13" { (y_title) } }
                text class="title end" x=(Px(self.left + self.width)) y=(Px(foot + 39.0)) { (x_title) }
            }
        }
    }

    /// Words instead of marks.
    pub(super) fn empty(&self, words: &str) -> Markup {
        html! { text class="empty middle" x=(Px(self.x(0.5))) y=(Px(self.y(0.5))) { (words) } }
    }
}

/// The labels that do not touch the one before.
fn apart(ticks: &[Tick], length: f64, needs: impl Fn(&str) -> f64) -> Vec<(f64, &str)> {
    let mut kept: Vec<(f64, &str)> = Vec::new();
    for tick in ticks {
        let Some(label) = tick.label.as_deref() else { continue };
        let free = kept
            .last()
            .is_none_or(|(place, before)| (tick.place - place) * length >= (needs(before) + needs(label)) / 2.0);
        if free {
            kept.push((tick.place, label));
        }
    }
    kept
}

fn line_class(tick: &Tick) -> &'static str {
    if tick.label.is_some() { "grid" } else { "grid faint" }
}

/// About how wide a tick's label is.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// The class that gives a series its colour.
pub(super) fn colour(series: usize) -> String {
    format!("s{}", series % COLOURS)
}

/// A number of the picture's units, to a tenth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Px(pub(super) f64);

impl Render for Px {
    fn render_to(&self, buffer: &mut String) {
        let tenths = (self.0 * 10.0).round() as i64;
        let written = match tenths % 10 {
            0 => write!(buffer, "{}", tenths / 10),
            _ => write!(buffer, "{}", tenths as f64 / 10.0),
        };
        written.expect("writing to a string does not fail");
    }
}

/// The `d` of a path.
#[derive(Debug, Default)]
pub(super) struct Outline(String);

impl Outline {
    pub(super) fn move_to(&mut self, x: f64, y: f64) {
        self.point('M', x, y);
    }

    pub(super) fn line_to(&mut self, x: f64, y: f64) {
        self.point('L', x, y);
    }

    pub(super) fn close(&mut self) {
        self.0.push('Z');
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn point(&mut self, command: char, x: f64, y: f64) {
        self.0.push(command);
        Px(x).render_to(&mut self.0);
        self.0.push(' ');
        Px(y).render_to(&mut self.0);
    }
}

impl Render for Outline {
    fn render_to(&self, buffer: &mut String) {
        buffer.push_str(&self.0);
    }
}

/// How the series of a picture look in its legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A filled outline.
    Area,
    /// A line.
    Line,
    /// A line with the series' mark.
    Mark,
    /// From light to dark: range, percentile, median.
    Range,
}

/// A legend's line for a series.
pub(super) fn entry(sign: Sign, series: usize, text: String) -> Entry {
    let inside = match sign {
        Sign::Area => html! { rect class="area outline" x="1.5" y="2.5" width="23" height="9" {} },
        Sign::Line => html! { path class={ "line " (dash(series)) } d="M1 7h24" {} },
        Sign::Mark => {
            html! { path class={ "line " (dash(series)) } d="M1 7h24" {} (mark(series, 13.0, 7.0, "mark", None)) }
        }
        Sign::Range => html! {
            rect class="range" x="1" y="1" width="24" height="12" {}
            rect class="range" x="1" y="4" width="24" height="9" {}
            path class="line" d="M1 10h24" {}
        },
    };
    Entry { sign: swatch(&colour(series), &inside), text }
}

/// The little picture in a legend's line.
pub(super) fn swatch(class: &str, inside: &Markup) -> Markup {
    html! { svg class={ "swatch " (class) } width="26" height="14" viewBox="0 0 26 14" aria-hidden="true" { (inside) } }
}

/// Every second line is dashed: colours are not the only difference.
pub(super) fn dash(series: usize) -> &'static str {
    ["solid", "dashed", "solid", "dash-dot", "solid", "dashed"][series % COLOURS]
}

/// A series' mark around a point: a shape of its own.
pub(super) fn mark(series: usize, x: f64, y: f64, class: &str, title: Option<&str>) -> Markup {
    let mut shape = Outline::default();
    let corners: &[(f64, f64)] = match series % COLOURS {
        0 => {
            return html! { circle class=(class) cx=(Px(x)) cy=(Px(y)) r="4" { @if let Some(title) = title { title { (title) } } } };
        }
        1 => &[(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)],
        2 => &[(0.0, -4.8), (4.6, 3.4), (-4.6, 3.4)],
        3 => &[(0.0, -5.2), (5.2, 0.0), (0.0, 5.2), (-5.2, 0.0)],
        4 => &[(0.0, 4.8), (4.6, -3.4), (-4.6, -3.4)],
        _ => &[
            (-1.8, -4.6),
            (1.8, -4.6),
            (1.8, -1.8),
            (4.6, -1.8),
            (4.6, 1.8),
            (1.8, 1.8),
            (1.8, 4.6),
            (-1.8, 4.6),
            (-1.8, 1.8),
            (-4.6, 1.8),
            (-4.6, -1.8),
            (-1.8, -1.8),
        ],
    };
    for (index, (dx, dy)) in corners.iter().enumerate() {
        if index == 0 { shape.move_to(x + dx, y + dy) } else { shape.line_to(x + dx, y + dy) }
    }
    shape.close();
    html! { path class=(class) d=(shape) { @if let Some(title) = title { title { (title) } } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_tenth_where_it_is_not_0() {
        let written = [0.0, 1.04, 1.05, -0.26, 799.96].map(|number| Px(number).render().0);
        assert_eq!(written, ["0", "1", "1.1", "-0.3", "800"]);
    }

    #[test]
    fn labels_that_would_touch_are_left_out() {
        let tick = |place, label: &str| Tick { place, label: Some(label.to_owned()) };
        let ticks = [tick(0.0, "1 ns"), tick(0.01, "2 ns"), tick(0.5, "100 ns"), tick(0.55, "200 ns")];
        let kept = apart(&ticks, 700.0, |label| text_width(label) + 6.0);
        assert_eq!(kept, [(0.0, "1 ns"), (0.5, "100 ns")]);
    }
}
