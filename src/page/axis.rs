//! From a number to its place along an axis, and what is written beside it.

use super::Scale;
use super::number::{Unit, count, duration, prefixed, without_zeros};

/// An axis of whole numbers: ns, or a count, or a rate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    form: Form,
    /// Taken off every number: an offset of hours, say, between clocks that nobody set. `low` and `high` are without it.
    base: i64,
    low: i64,
    high: i64,
    words: Words,
    /// At most so many labels.
    room: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// A tick at each multiple of the step.
    Linear { step: i64 },
    /// Of positive numbers.
    Log,
    /// Linear from −`linear` to `linear`, which takes the room of so many decades to each side.
    Symlog { linear: i64, decades: f64 },
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// 12 µs
    Duration,
    /// 12k
    Prefixed,
}

/// A side of 0 with any numbers takes at least so much of what the other one has.
const NARROWEST: f64 = 0.075;

/// A line across the picture, and the number on it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// From 0 to 1.
    pub(super) place: f64,
    /// `None`: only a faint line.
    pub(super) label: Option<String>,
}

/// From where to where numbers lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) min: i64,
    pub(super) max: i64,
    /// Where most of them are.
    pub(super) core: (i64, i64),
}

impl Extent {
    /// All of them are their core; `None` of nothing.
    pub(super) fn of(values: impl IntoIterator<Item = i64>) -> Option<Self> {
        values.into_iter().map(|value| Self { min: value, max: value, core: (value, value) }).reduce(Self::and)
    }

    /// Both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            core: (self.core.0.min(other.core.0), self.core.1.max(other.core.1)),
        }
    }

    /// Whether the core would be a small part of a linear axis, or small numbers next to nothing beside large ones.
    fn is_wide(self) -> bool {
        if !self.is_far() {
            // Few that lie at 0 or below it do not change what the others are like.
            let least = if self.min > 0 { self.min } else { self.core.0 };
            if least > 0 {
                return self.max / least >= 10;
            }
        }
        self.span() > 20 * (i128::from(self.core.1) - i128::from(self.core.0)).max(1)
    }

    /// Whether the numbers differ by little of what they are.
    fn is_far(self) -> bool {
        let nearest = if self.min > 0 { self.min } else { self.max.saturating_neg() };
        i128::from(nearest) > 10 * self.span() && nearest > 100_000
    }

    fn span(self) -> i128 {
        i128::from(self.max) - i128::from(self.min)
    }

    /// The numbers less so much.
    fn less(self, base: i64) -> Self {
        let less = |value: i64| value.saturating_sub(base);
        Self { min: less(self.min), max: less(self.max), core: (less(self.core.0), less(self.core.1)) }
    }
}

impl Axis {
    /// An axis with room for so many labels that all of the extent fits on.
    pub(super) fn new(scale: Scale, extent: Extent, words: Words, room: usize) -> Self {
        let logarithmic = match scale {
            Scale::Auto => extent.is_wide(),
            Scale::Linear => false,
            Scale::Log => true,
        };
        let form = match logarithmic {
            false => return Self::linear(extent, words, room),
            true if extent.is_far() && extent.span() > 0 => {
                // From a round number below all.
                let step = round_step((i128::from(extent.core.1) - i128::from(extent.core.0)).max(1));
                let base = (i128::from(extent.min).div_euclid(step) * step).max(i128::from(i64::MIN)) as i64;
                let Extent { max, core, .. } = extent.less(base);
                let from_base = Extent { min: 0, max, core: (0, core.1) };
                return Self { base, ..Self::new(Scale::Log, from_base, words, room) };
            }
            true if extent.min > 0 => Form::Log,
            true => return Self::around_zero(extent, words, room),
        };
        let (mut low, mut high) = (step_down(extent.min), step_up(extent.max));
        if low == high {
            (low, high) = (step_down(low.saturating_sub(1)), step_up(high.saturating_add(1)));
        }
        Self { form, base: 0, low, high, words, room }
    }

    /// Logarithmic to both sides of a linear part, of numbers that are not all positive. What is slightly on the other side of 0
    /// takes little room.
    fn around_zero(extent: Extent, words: Words, room: usize) -> Self {
        let (linear, least) = linear_part(extent);
        let beyond = |end: i64| (end.unsigned_abs() as f64 / linear as f64).log10().max(0.0);
        let all = beyond(step_down(extent.min)) + beyond(step_up(extent.max));
        // A number at its end and another at 0 have room beside each other.
        let decades = least.max(all / 12.0);
        let mut axis = Self { form: Form::Symlog { linear, decades }, base: 0, low: 0, high: 0, words, room };
        (axis.low, axis.high) = (-axis.end(extent.min.saturating_neg()), axis.end(extent.max));
        if axis.low == 0 && axis.high == 0 {
            (axis.low, axis.high) = (-linear, linear);
        }
        // What lies on the one side is seen beside much on the other, and there is room for a number at its end.
        let (below, above) = (-axis.along(axis.low), axis.along(axis.high));
        if axis.low < 0 && below < above * NARROWEST {
            axis.low = -axis.end(axis.magnitude(above * NARROWEST).min(linear));
        }
        if axis.high > 0 && above < below * NARROWEST {
            axis.high = axis.end(axis.magnitude(below * NARROWEST).min(linear));
        }
        axis
    }

    /// The least step that is not below a magnitude: within the linear part its tenths. 0 where it is negative.
    fn end(&self, magnitude: i64) -> i64 {
        let linear = self.linear_part();
        let tenth = (linear / 10).max(1);
        match magnitude {
            ..=0 => 0,
            inside if inside <= linear => ((inside - 1) / tenth + 1).saturating_mul(tenth).min(linear),
            beyond => step_up(beyond),
        }
    }

    /// Of counts from 0 to so many: nothing has no height, one has that of a decade.
    pub(super) fn of_counts(max: u64, room: usize) -> Self {
        let high = step_up(i64::try_from(max).unwrap_or(i64::MAX).max(1));
        Self { form: Form::Symlog { linear: 1, decades: 1.0 }, base: 0, low: 0, high, words: Words::Prefixed, room }
    }

    /// With ends on ticks.
    fn linear(extent: Extent, words: Words, room: usize) -> Self {
        let (mut min, mut max) = (i128::from(extent.min), i128::from(extent.max));
        if min == max {
            // A tenth to each side, where that is neither less than there is to be seen nor a matter of centuries.
            let side = (min.abs() / 10).clamp(5, 1_000_000_000);
            (min, max) = (min - side, max + side);
        }
        let steps = room.max(2) as i128 - 1;
        let step = round_step((max - min + steps - 1) / steps);
        let clamp = |end: i128| end.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        let (low, high) = (clamp(min.div_euclid(step) * step), clamp(-(-max).div_euclid(step) * step));
        // A base where the numbers would have too many digits.
        let digits = i128::from(low.unsigned_abs().max(high.unsigned_abs())) / step;
        let base = if words == Words::Duration && digits >= 100_000 { low } else { 0 };
        let (low, high) = (low.saturating_sub(base), high.saturating_sub(base));
        Self { form: Form::Linear { step: clamp(step) }, base, low, high, words, room }
    }

    /// Ends at this number, not at the tick beyond, where it is linear: of time there is no room to be left at the end.
    pub(super) fn until(mut self, end: i64) -> Self {
        if self.is_linear() && self.low < self.high {
            self.high = end.saturating_sub(self.base).clamp(self.low + 1, self.high);
        }
        self
    }

    /// Where a number lies: from 0 to 1.
    pub(super) fn place(&self, value: i64) -> f64 {
        // In integers: a date in ns has more digits than an f64.
        self.place_of(value.saturating_sub(self.base))
    }

    /// Of a number less the base.
    fn place_of(&self, value: i64) -> f64 {
        let (low, high) = (self.along(self.low), self.along(self.high));
        ((self.along(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// The whole number nearest to a place from 0 to 1.
    pub(super) fn value(&self, place: f64) -> i64 {
        let (low, high) = (self.along(self.low), self.along(self.high));
        let along = low + place * (high - low);
        let value = match self.form {
            Form::Linear { .. } => self.low.saturating_add(along.round() as i64),
            Form::Log => 10f64.powf(along).round() as i64,
            Form::Symlog { .. } => self.magnitude(along.abs()) * along.signum() as i64,
        };
        value.saturating_add(self.base)
    }

    /// What lies so far from 0 on a logarithmic axis around it, in units of this axis' own.
    fn magnitude(&self, along: f64) -> i64 {
        let Form::Symlog { linear, decades } = self.form else { return 0 };
        let ratio = if along <= decades { along / decades } else { 10f64.powf(along - decades) };
        (ratio * linear as f64).round() as i64
    }

    /// In units of this axis' own.
    fn along(&self, value: i64) -> f64 {
        match self.form {
            Form::Linear { .. } => (i128::from(value) - i128::from(self.low)) as f64,
            Form::Log => (value.max(1) as f64).log10(),
            Form::Symlog { linear, decades } => {
                let ratio = value as f64 / linear as f64;
                if ratio.abs() <= 1.0 { ratio * decades } else { ratio.signum() * (decades + ratio.abs().log10()) }
            }
        }
    }

    /// Both ends.
    pub(super) const fn ends(&self) -> (i64, i64) {
        (self.low.saturating_add(self.base), self.high.saturating_add(self.base))
    }

    /// Whether equal distances are equal differences.
    pub(super) const fn is_linear(&self) -> bool {
        matches!(self.form, Form::Linear { .. })
    }

    /// Zero, where it lies on the axis; else its lower end.
    pub(super) fn origin(&self) -> f64 {
        if self.low <= 0 && self.high >= 0 { self.place_of(0) } else { 0.0 }
    }

    /// What the numbers at the ticks are: the quantity, and the unit where it does not stand at each tick; and how they lie where
    /// equal distances are no equal differences.
    pub(super) fn title(&self, quantity: &str) -> String {
        let less = if self.base == 0 { String::new() } else { format!(" less {}", exactly(self.base)) };
        match (self.form, self.words) {
            (Form::Linear { .. }, Words::Duration) => format!("{quantity}{less} ({})", self.linear_unit().name()),
            // What looks like a decade around 0 is none.
            (Form::Symlog { linear, .. }, Words::Duration) => {
                let (from, to) = (self.low.max(-linear), self.high.min(linear));
                format!("{quantity}{less} (logarithmic, linear from {} to {})", duration(from), duration(to))
            }
            (Form::Log, _) => format!("{quantity}{less} (logarithmic)"),
            _ => format!("{quantity}{less}"),
        }
    }

    /// In ascending order.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let tick = |value: i64, label| Tick { place: self.place_of(value), label };
        match self.form {
            Form::Linear { step } => {
                let unit = self.linear_unit();
                let values = (0..).map_while(|n| self.low.checked_add(step.checked_mul(n)?));
                let label = |value: i64| match self.words {
                    Words::Duration => without_zeros(&unit.number(value)).to_owned(),
                    Words::Prefixed => prefixed(value),
                };
                values.take_while(|value| *value <= self.high).map(|value| tick(value, Some(label(value)))).collect()
            }
            Form::Log | Form::Symlog { .. } => {
                let labelled = self.labelled();
                let steps = self.steps();
                let label = |value: i64| match self.words {
                    Words::Duration => duration(value),
                    Words::Prefixed => prefixed(value),
                };
                steps.into_iter().map(|value| tick(value, labelled.contains(&value).then(|| label(value)))).collect()
            }
        }
    }

    /// All 1 to 9 times powers of ten on a logarithmic axis, 0, and tenths of the linear part.
    fn steps(&self) -> Vec<i64> {
        let linear = self.linear_part();
        let tenths = || (1..10).map(|n| linear / 10 * n).filter(|step| *step > 0);
        let multiples = || powers().flat_map(|power| (1..10).filter_map(move |n| power.checked_mul(n)));
        let magnitudes = || tenths().chain(multiples().filter(|step| *step >= linear));
        let mut steps: Vec<i64> = magnitudes().map(|step| -step).chain([0]).chain(magnitudes()).collect();
        // The largest number that there is is no step; where the linear part has no tenths, its ends are none.
        steps.extend([self.low, self.high]);
        steps.retain(|step| (self.low..=self.high).contains(step) && step.unsigned_abs() != i64::MAX as u64);
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// Up to where the axis is linear; 1 where it is nowhere.
    const fn linear_part(&self) -> i64 {
        if let Form::Symlog { linear, .. } = self.form { linear } else { 1 }
    }

    /// Those of the steps with room for a number: 1, 2 and 5 times the powers of ten, or the powers, or some of them; and both ends.
    fn labelled(&self) -> Vec<i64> {
        let steps = self.steps();
        let linear = self.linear_part();
        let leading = |value: i64| match value.unsigned_abs() {
            0 => 0,
            digits => digits / 10u64.pow(digits.ilog10()),
        };
        // Of the linear part its ends and its middle, or where it is cut off.
        let with = |allowed: &[u64], middle: bool| -> Vec<i64> {
            let is_kept = |step: i64| match step.abs() >= linear {
                true => step.abs() == linear || allowed.contains(&leading(step)),
                false => {
                    let end = if step < 0 { self.low.max(-linear) } else { self.high.min(linear) };
                    let is_half = linear >= 10 && end.abs() == linear && step.abs() == linear / 10 * 5;
                    step == 0 || step == end || (middle && is_half)
                }
            };
            steps.iter().copied().filter(|step| is_kept(*step)).collect()
        };
        let powers = match with(&[1], false) {
            // Near the largest number that there is: the axis ends before its next power.
            none if none.is_empty() => with(&[1, 2, 5], false),
            powers => powers,
        };
        let with_ends = |mut labelled: Vec<i64>| {
            labelled.extend([self.low, self.high].into_iter().filter(|end| steps.contains(end)));
            labelled.sort_unstable();
            labelled.dedup();
            labelled
        };
        for labelled in [with(&[1, 2, 5], true), with(&[1], true)] {
            // Two numbers at least, so that one sees what a step is.
            if (2..=self.room).contains(&labelled.len()) {
                return with_ends(labelled);
            }
        }
        // Each second or third power and so on, counted from 0 or from the lower end.
        let zero = powers.iter().position(|power| *power == 0).unwrap_or(0);
        let stride = powers.len().div_ceil(self.room.max(1)).max(1);
        let kept = powers.iter().enumerate().filter(|(index, _)| index.abs_diff(zero) % stride == 0);
        with_ends(kept.map(|(_, power)| *power).collect())
    }

    fn linear_unit(&self) -> Unit {
        Unit::of(self.low.unsigned_abs().max(self.high.unsigned_abs()))
    }
}

/// A duration to the nanosecond.
fn exactly(nanos: i64) -> String {
    let magnitude = nanos.unsigned_abs();
    let text = format!("{}.{:09}", count(magnitude / 1_000_000_000), magnitude % 1_000_000_000);
    format!("{}{} s", if nanos < 0 { "−" } else { "" }, without_zeros(&text))
}

/// What of a logarithmic axis around 0 is linear, up to where on both sides, and how many decades that takes on each at least.
///
/// Where most numbers are on one side of 0, all of them are beyond the linear part, however few and small those on the other side
/// are; it is no wider than what goes on without a bend. Where most numbers are on both sides, it holds those of the narrower
/// side, as a logarithm would tear apart what differs by little but in its sign. It is not less than eight decades below the
/// largest number.
fn linear_part(Extent { min, max, core }: Extent) -> (i64, f64) {
    let magnitudes = |(low, high): (i64, i64)| [low.unsigned_abs(), high.unsigned_abs()];
    let largest = magnitudes((min, max)).into_iter().max().unwrap_or(0);
    let (near, usual) =
        (core.0.unsigned_abs().min(core.1.unsigned_abs()), core.0.unsigned_abs().max(core.1.unsigned_abs()));
    let signed = |magnitude: u64| i64::try_from(magnitude).unwrap_or(i64::MAX);
    let power = |magnitude: u64| signed(10u64.pow(magnitude.max(1).ilog10()));
    let (linear, decades) = match (usual, near) {
        (0, _) => (magnitudes((min, max)).into_iter().filter(|end| *end > 0).min().map_or(1, power), 1.0),
        (_, 0) => (power(usual), 1.0),
        _ if (core.0 > 0) == (core.1 > 0) => (step_down(signed(near)), std::f64::consts::LOG10_E),
        // Without a bend in how wide columns are: a histogram would show a step there.
        _ => (step_up(signed(near)).max(power(usual) / 10), std::f64::consts::LOG10_E),
    };
    (linear.max(power(largest / 100_000_000)), decades)
}

/// 1, 10, 100, …
fn powers() -> impl Iterator<Item = i64> {
    std::iter::successors(Some(1i64), |power| power.checked_mul(10))
}

/// 1, 2 or 5 times a power of ten, at least so many and at least 1.
pub(super) fn round_step(at_least: i128) -> i128 {
    let mut power = 1i128;
    loop {
        if let Some(step) = [1, 2, 5].map(|n| n * power).into_iter().find(|step| *step >= at_least) {
            return step;
        }
        power *= 10;
    }
}

/// The largest of 0 and plus or minus 1, 2 and 5 times the powers of ten that is not above.
fn step_down(value: i64) -> i64 {
    match value {
        ..0 => -step_up(value.saturating_neg()),
        0 => 0,
        1.. => {
            let above = round_step(i128::from(value));
            let below = if above == i128::from(value) { above } else { round_step(above * 4 / 10) };
            below as i64
        }
    }
}

/// The smallest that is not below; the largest there is where there is none.
fn step_up(value: i64) -> i64 {
    match value {
        ..0 => -step_down(value.saturating_neg()),
        0 => 0,
        1.. => i64::try_from(round_step(i128::from(value))).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests;
