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
    /// Which rounds it is also judged by, on their own; `None` for no others than all.
    pub calm: Option<&'static Calm>,
}

/// What makes a round a calm one: a figure of somebody who has no part in what is to be reached.
pub struct Calm {
    pub measure: &'static str,
    pub unit: &'static str,
    pub contestant: &'static str,
    /// The figure of such a round is not above this.
    pub at_most: f64,
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

    /// Of each round whether it was calm; empty where that was not measured.
    fn calm(&self, calm: &Calm) -> Vec<bool> {
        let figure = self.get(calm.measure, calm.contestant);
        figure.map_or_else(Vec::new, |figure| figure.rounds.iter().map(|value| *value <= calm.at_most).collect())
    }

    /// How many rounds were calm.
    pub fn calm_rounds(&self, calm: &Calm) -> usize {
        self.calm(calm).into_iter().filter(|is_calm| *is_calm).count()
    }

    /// A target's figure of each round, or its ratio to another's within the round, as what disturbs the machine disturbs neighbours
    /// alike; `None` where one of them was not measured. A round in which either is not above 0 has none: nanoprobe takes t0 after it
    /// has sent, so that a pong can be there before, and a ratio to less than nothing would be below any bound.
    fn rounds(&self, target: &Target) -> Option<Vec<f64>> {
        let figure = self.get(target.measure, target.contestant)?;
        let Some((measure, contestant)) = target.against else { return Some(figure.rounds.clone()) };
        let other = self.get(measure, contestant)?;
        Some(figure.rounds.iter().zip(&other.rounds).map(|(ours, theirs)| ratio(*ours, *theirs)).collect())
    }

    fn value(&self, target: &Target) -> Option<Spread> {
        spread(&self.rounds(target)?)
    }

    /// The same of the calm rounds alone; `None` where the target asks for none, or there was none.
    fn calm_value(&self, target: &Target) -> Option<Spread> {
        let calm = self.calm(target.calm?);
        let of_calm = self.rounds(target)?.into_iter().zip(calm).filter(|(_, is_calm)| *is_calm);
        spread(&of_calm.map(|(value, _)| value).collect::<Vec<_>>())
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
            let value = self.value(target);
            row(&mut out, &target.what(), target.bound, value, "not measured");
            if let Some(calm) = target.calm {
                let [calm_rounds, rounds] = [self.calm_rounds(calm), self.calm(calm).len()];
                let what = format!("{}, calm rounds ({calm_rounds} of {rounds} rounds)", target.what());
                let missing = if calm_rounds == 0 { "no calm round" } else { "not measured" };
                row(&mut out, &what, target.bound, self.calm_value(target), missing);
            }
        }
        if let Some(Calm { measure, unit, contestant, at_most }) = targets.iter().find_map(|target| target.calm) {
            let _ = writeln!(
                out,
                "\nIn a calm round the {contestant}'s own {measure} was not above {at_most} {unit}; nobody else's figures decide."
            );
        }
        out
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
                "bound": target.bound.text(), "reached": value.map(|spread| target.bound.holds(spread.median)),
                "median": value.map(|spread| spread.median),
                "least": value.map(|spread| spread.least),
                "most": value.map(|spread| spread.most),
                "calm": target.calm.map(|calm| self.calm_to_json(target, calm)),
            })
        });
        [figures.collect(), targets.collect()]
    }

    fn calm_to_json(&self, target: &Target, calm: &Calm) -> Value {
        let value = self.calm_value(target);
        json!({
            "measure": calm.measure, "contestant": calm.contestant, "at_most": calm.at_most,
            "rounds": self.calm_rounds(calm), "of": self.calm(calm).len(),
            "reached": value.map(|spread| target.bound.holds(spread.median)),
            "median": value.map(|spread| spread.median),
            "least": value.map(|spread| spread.least),
            "most": value.map(|spread| spread.most),
        })
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
    fn holds(self, median: f64) -> bool {
        match self {
            Self::AtMost(bound) => median <= bound,
            Self::AtLeast(bound) => median >= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("<= {bound}"),
            Self::AtLeast(bound) => format!(">= {bound}"),
        }
    }
}

fn ratio(ours: f64, theirs: f64) -> f64 {
    if ours > 0.0 && theirs > 0.0 { ours / theirs } else { f64::NAN }
}

/// A row of the table of targets; `missing` says why there is no value where there is none.
fn row(out: &mut String, what: &str, bound: Bound, value: Option<Spread>, missing: &str) {
    let [median, least, most] = match value {
        Some(Spread { median, least, most }) => [median, least, most].map(short),
        None => [const { String::new() }; 3],
    };
    let reached = match value.map(|spread| bound.holds(spread.median)) {
        Some(true) => "yes",
        Some(false) => "NO",
        None => missing,
    };
    let _ = writeln!(out, "| {what} | {} | {median} | {least} | {most} | {reached} |", bound.text());
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
