//! What was measured, round by round, and what is to be reached; as a table and as JSON.

use serde_json::{Value, json};
use std::fmt::Write as _;

/// One quantity of one contestant, over the rounds.
struct Figure {
    measure: &'static str,
    unit: &'static str,
    contestant: &'static str,
    rounds: Vec<f64>,
}

/// All of them, in the order in which they were first measured.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

/// What is to be reached.
pub struct Target {
    pub measure: &'static str,
    pub contestant: &'static str,
    /// Whose figure is divided by; `None` where the figure itself counts.
    pub against: Option<(&'static str, &'static str)>,
    pub bound: Bound,
}

/// Which side of a number.
#[derive(Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A median and its spread.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Figures {
    /// Adds what one round brought. What is not a number was not measured, and does not count.
    pub fn add(&mut self, measure: &'static str, unit: &'static str, contestant: &'static str, value: f64) {
        let at = self.0.iter().position(|figure| (figure.measure, figure.contestant) == (measure, contestant));
        let figure = match at {
            Some(at) => &mut self.0[at],
            None => {
                self.0.push(Figure { measure, unit, contestant, rounds: Vec::new() });
                self.0.last_mut().expect("one was pushed")
            }
        };
        figure.rounds.push(value);
    }

    fn get(&self, measure: &str, contestant: &str) -> Option<&Figure> {
        self.0.iter().find(|figure| figure.measure == measure && figure.contestant == contestant)
    }

    /// A target's figure, or its ratio to another's: the median of the ratios within each round, as what disturbs the machine
    /// disturbs neighbours alike.
    fn value(&self, target: &Target) -> Option<Spread> {
        let figure = self.get(target.measure, target.contestant)?;
        let Some((measure, contestant)) = target.against else { return spread(&figure.rounds) };
        let other = self.get(measure, contestant)?;
        let ratios: Vec<f64> = figure.rounds.iter().zip(&other.rounds).map(|(ours, theirs)| ours / theirs).collect();
        spread(&ratios)
    }

    /// The tables.
    pub fn to_text(&self, targets: &[Target]) -> String {
        let mut out = String::from("| measure | contestant | median | least | most | |\n|---|---|---|---|---|---|\n");
        for Figure { measure, unit, contestant, rounds } in &self.0 {
            let Some(Spread { median, least, most }) = spread(rounds) else { continue };
            let [median, least, most] = [median, least, most].map(short);
            let _ = writeln!(out, "| {measure} | {contestant} | {median} | {least} | {most} | {unit} |");
        }
        out += "\n| target | | median | least | most | reached |\n|---|---|---|---|---|---|\n";
        for target in targets {
            let [median, least, most] = match self.value(target) {
                Some(Spread { median, least, most }) => [median, least, most].map(short),
                None => [const { String::new() }; 3],
            };
            let reached = match self.reached(target) {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "not measured",
            };
            let _ = writeln!(
                out,
                "| {} | {} | {median} | {least} | {most} | {reached} |",
                target.what(),
                target.bound.text()
            );
        }
        out
    }

    /// `None` where it was not measured.
    fn reached(&self, target: &Target) -> Option<bool> {
        let median = self.value(target)?.median;
        Some(match target.bound {
            Bound::AtMost(bound) => median <= bound,
            Bound::AtLeast(bound) => median >= bound,
        })
    }

    /// The figures and targets of `bench.json`.
    pub fn to_json(&self, targets: &[Target]) -> [Value; 2] {
        let figures = self.0.iter().map(|Figure { measure, unit, contestant, rounds }| {
            let spread = spread(rounds);
            json!({
                "measure": measure, "unit": unit, "contestant": contestant, "rounds": rounds,
                "median": spread.map(|spread| spread.median),
                "least": spread.map(|spread| spread.least),
                "most": spread.map(|spread| spread.most),
            })
        });
        let targets = targets.iter().map(|target| {
            let value = self.value(target);
            let against =
                target.against.map(|(measure, contestant)| json!({"measure": measure, "contestant": contestant}));
            json!({
                "measure": target.measure, "contestant": target.contestant, "against": against,
                "bound": target.bound.text(), "reached": self.reached(target),
                "median": value.map(|spread| spread.median),
                "least": value.map(|spread| spread.least),
                "most": value.map(|spread| spread.most),
            })
        });
        [figures.collect(), targets.collect()]
    }
}

impl Target {
    fn what(&self) -> String {
        let Self { measure, contestant, against, .. } = self;
        match against {
            Some((other, whose)) if other == measure => format!("{measure}: {contestant} / {whose}"),
            Some((other, whose)) => format!("{measure}: {contestant} / {other}: {whose}"),
            None => format!("{measure}: {contestant}"),
        }
    }
}

impl Bound {
    fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("<= {bound}"),
            Self::AtLeast(bound) => format!(">= {bound}"),
        }
    }
}

/// Of the values that are numbers; `None` where none is.
fn spread(values: &[f64]) -> Option<Spread> {
    let mut values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let upper = values.len() / 2;
    let lower = (values.len() - 1) / 2;
    Some(Spread { median: f64::midpoint(values[lower], values[upper]), least, most })
}

/// Three digits at least, and no more than say something.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
