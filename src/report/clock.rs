//! How the clocks of the two sides go, from the least delays of both directions.
//!
//! θ(t) is what the clock of the side that answers (in duplex sessions the server's) shows more than that of the side that
//! pings (the client's) when the latter shows t. It is taken for a line, θ(t) = offset + skew · (t − first t0). No delay is
//! negative, so θ lies below t1 − t0 of every ping and above t2 − t3 of every pong. Of all lines through that corridor the
//! skew is that of the one with the most room above and below: where the least delays of the two directions, parallel to
//! it, are as large as they can be together. That is the linear program of Moon, Skelly and Towsley ("Estimation and
//! Removal of Clock Skew from Network Delay Measurements", INFOCOM 1999) for both directions at once. Each direction's
//! part of it is the lower convex hull of its points, which is kept while the packets stream by.
//!
//! The skew needs no assumption but that it is constant. The offset does: nobody can tell a clock that is behind from a way
//! that is longer, so the least delays of the two ways are taken for equal.

/// Corners of a hull that are kept. A clock whose skew changes steadily makes every point a corner.
const CORNERS: usize = 4096;
/// Packets that each direction must have for a skew.
const ENOUGH: u64 = 10;

/// The lower convex hull of a direction's delays over time, both clocks' difference included.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    /// Times and delays less those of the first point, in ns: both are exact up to 2^53.
    corners: Vec<(f64, f64)>,
    first: Option<(i64, i64)>,
    count: u64,
    end: f64,
}

impl Envelope {
    /// A packet with `delay` ns was seen at `at` ns. One that is older than the one before it is left out.
    #[inline]
    pub(super) fn add(&mut self, at: i64, delay: i64) {
        let (first_at, first_delay) = *self.first.get_or_insert((at, delay));
        let point = ((at - first_at) as f64, (delay - first_delay) as f64);
        if self.count > 0 && point.0 <= self.end {
            return;
        }
        self.count += 1;
        self.end = point.0;
        while let [.., before, last] = self.corners[..]
            && !is_below(before, last, point)
        {
            self.corners.pop();
        }
        if self.corners.len() == CORNERS {
            self.thin_out();
        }
        self.corners.push(point);
    }

    /// Leaves every second corner, the first and the last among them.
    #[cold]
    fn thin_out(&mut self) {
        let last = self.corners.len() - 1;
        let mut index = 0;
        self.corners.retain(|_| {
            index += 1;
            (index - 1) % 2 == 0 || index - 1 == last
        });
    }

    /// The corners with times since `origin` and whole delays.
    fn corners_since(&self, origin: i64, delay: i64) -> Vec<(f64, f64)> {
        let Some((first_at, first_delay)) = self.first else { return Vec::new() };
        let (at, up) = ((first_at - origin) as f64, (first_delay - delay) as f64);
        self.corners.iter().map(|corner| (corner.0 + at, corner.1 + up)).collect()
    }
}

/// Whether `middle` lies below the line from `left` to `right`.
fn is_below(left: (f64, f64), middle: (f64, f64), right: (f64, f64)) -> bool {
    (middle.1 - left.1) * (right.0 - left.0) < (right.1 - left.1) * (middle.0 - left.0)
}

/// A line that says how the two clocks go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ClockLine {
    /// The time on the pinging side's clock at which `offset` holds, in ns.
    pub(super) origin: i64,
    /// ns, of which the fraction is in `fraction`.
    pub(super) offset: i64,
    pub(super) fraction: f64,
    /// ns a ns.
    pub(super) skew: f64,
}

impl ClockLine {
    /// Clocks that show the same.
    pub(super) const SAME: Self = Self { origin: 0, offset: 0, fraction: 0.0, skew: 0.0 };

    /// What the answering side's clock shows more when the pinging side's shows `at`, in ns.
    #[inline]
    fn ahead(&self, at: i64) -> (i64, f64) {
        (self.offset, self.fraction + self.skew * (at - self.origin) as f64)
    }

    /// How long a ping was under way: `difference` is t1 − t0, `at` is t0. In ns of the pinging side's clock.
    #[inline]
    pub(super) fn forward(&self, difference: i64, at: i64) -> i64 {
        let (whole, rest) = self.ahead(at);
        self.scaled(difference.saturating_sub(whole), -rest)
    }

    /// How long a pong was under way: `difference` is t3 − t2, `at` is t3.
    #[inline]
    pub(super) fn backward(&self, difference: i64, at: i64) -> i64 {
        let (whole, rest) = self.ahead(at);
        self.scaled(difference.saturating_add(whole), rest)
    }

    /// The other clock's ns as ns of this one.
    #[inline]
    fn scaled(&self, whole: i64, rest: f64) -> i64 {
        let correction = rest - (whole as f64 + rest) * self.skew / (1.0 + self.skew);
        whole.saturating_add(rounded(correction))
    }
}

/// To the nearest whole number, halves away from 0, as [`f64::round`] has it: that one is a call where the CPU that the
/// program is built for need not have an instruction for it.
#[inline]
pub(super) fn rounded(number: f64) -> i64 {
    let whole = number as i64;
    let rest = number - whole as f64;
    whole.saturating_add(i64::from(rest >= 0.5) - i64::from(rest <= -0.5))
}

/// Why there is no skew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WithoutSkew {
    /// A direction has less than [`ENOUGH`] packets.
    TooFew,
    /// The two directions were not seen at the same time for long enough.
    NoOverlap,
}

impl WithoutSkew {
    /// As the beginning of a sentence.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::TooFew => "Too few packets",
            Self::NoOverlap => "The packets of the two directions overlap too little in time",
        }
    }
}

/// What the least delays say of the clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) line: ClockLine,
    /// Why no skew was reckoned, and it was taken for 0.
    pub(super) without_skew: Option<WithoutSkew>,
    /// Half of the least delays of both ways together, in ns: no asymmetry can put the offset further off at a time at
    /// which both were reached.
    pub(super) half_gap: f64,
    /// The least and the largest skew with which no delay of either direction would be negative; `None` where no skew was
    /// reckoned, or there is none such.
    pub(super) skews: Option<[f64; 2]>,
}

impl Estimate {
    /// Whichever of the skews it is, taking the estimated one into account comes nearer to it than taking 0 does.
    pub(super) fn is_sure(&self) -> bool {
        self.skews.is_some_and(|skews| 2.0 * self.farthest(skews) < self.line.skew.abs())
    }

    /// What is left of the skew, at most, of which `taken` was taken into account.
    pub(super) fn left(&self, taken: f64) -> Option<f64> {
        self.skews.map(|[least, most]| (taken - least).abs().max((most - taken).abs()))
    }

    fn farthest(&self, [least, most]: [f64; 2]) -> f64 {
        (self.line.skew - least).max(most - self.line.skew)
    }
}

/// Estimates the line from what was seen in both directions; `None` where one of them has no packet.
///
/// `origin` is the first t0.
pub(super) fn estimate(forward: &Envelope, backward: &Envelope, origin: i64) -> Option<Estimate> {
    let ((_, forth), (_, back)) = (forward.first?, backward.first?);
    // Most of the offset is taken away beforehand, so that little is left for floating point.
    let offset = ((i128::from(forth) - i128::from(back)) / 2) as i64;
    let forward_corners = forward.corners_since(origin, offset);
    let backward_corners = backward.corners_since(origin, -offset);
    let up = |skew: f64| forward_corners.iter().map(|(at, delay)| delay - skew * at).fold(f64::INFINITY, f64::min);
    let down = |skew: f64| backward_corners.iter().map(|(at, delay)| delay + skew * at).fold(f64::INFINITY, f64::min);
    let without_skew = if forward.count.min(backward.count) < ENOUGH {
        Some(WithoutSkew::TooFew)
    } else if !overlap(&forward_corners, &backward_corners) {
        Some(WithoutSkew::NoOverlap)
    } else {
        None
    };
    let skew = if without_skew.is_none() {
        let slopes = slopes(&forward_corners).chain(slopes(&backward_corners).map(|slope| -slope));
        widest(slopes.collect(), |skew| up(skew) + down(skew))
    } else {
        0.0
    };
    let gap = |skew: f64| up(skew) + down(skew);
    let skews = (without_skew.is_none() && gap(skew) >= 0.0).then(|| [-1.0, 1.0].map(|sign| end(skew, sign, gap)));
    let (up, down) = (up(skew), down(skew));
    let fraction = (up - down) / 2.0;
    let half_gap = (up + down) / 2.0;
    Some(Estimate { line: ClockLine { origin, offset, fraction, skew }, without_skew, half_gap, skews })
}

/// How far the skew can go in the direction of `sign` until `gap`, concave and not negative at `from`, is. At most to 1.
fn end(from: f64, sign: f64, gap: impl Fn(f64) -> f64) -> f64 {
    let (mut within, mut beyond) = (0.0, 1e-12);
    while beyond < 1.0 && gap(from + sign * beyond) >= 0.0 {
        (within, beyond) = (beyond, 2.0 * beyond);
    }
    // To far less than a skew is known.
    for _ in 0..40 {
        let middle = (within + beyond) / 2.0;
        if gap(from + sign * middle) >= 0.0 { within = middle } else { beyond = middle }
    }
    from + sign * beyond
}

/// The skew alone, from one direction: the line under all its delays that is nearest to them in the middle of the time.
/// `None` where there are too few packets. A `sign` of −1 is for the backward direction.
pub(super) fn skew_of_one(envelope: &Envelope, sign: f64) -> Option<f64> {
    if envelope.count < ENOUGH {
        return None;
    }
    let middle = envelope.end / 2.0;
    let edge = envelope.corners.windows(2).find(|edge| edge[1].0 >= middle)?;
    Some(sign * (edge[1].1 - edge[0].1) / (edge[1].0 - edge[0].0))
}

/// Whether the two directions were seen at the same time for at least half of the longer one's.
fn overlap(one: &[(f64, f64)], other: &[(f64, f64)]) -> bool {
    let range = |corners: &[(f64, f64)]| (corners[0].0, corners[corners.len() - 1].0);
    let ((start, end), (from, to)) = (range(one), range(other));
    let together = end.min(to) - start.max(from);
    together > 0.0 && 2.0 * together >= (end - start).max(to - from)
}

fn slopes(corners: &[(f64, f64)]) -> impl Iterator<Item = f64> {
    corners.windows(2).map(|edge| (edge[1].1 - edge[0].1) / (edge[1].0 - edge[0].0))
}

/// Where `gap`, a concave function with corners at `slopes`, is largest; the middle where that is a range.
fn widest(mut slopes: Vec<f64>, gap: impl Fn(f64) -> f64) -> f64 {
    slopes.sort_unstable_by(f64::total_cmp);
    slopes.dedup();
    // It rises up to its summit: the first corner from which it does not rise is found by halving.
    let first = partition(&slopes, |index| gap(slopes[index + 1]) > gap(slopes[index]));
    let last = partition(&slopes, |index| gap(slopes[index + 1]) >= gap(slopes[index]));
    match (slopes.get(first), slopes.get(last)) {
        (Some(first), Some(last)) => (first + last) / 2.0,
        _ => 0.0,
    }
}

/// The first index at which `rises` no longer holds.
fn partition(slopes: &[f64], rises: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, slopes.len().saturating_sub(1));
    while low < high {
        let middle = (low + high) / 2;
        if rises(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(points: &[(i64, i64)]) -> Envelope {
        let mut envelope = Envelope::default();
        points.iter().for_each(|(at, delay)| envelope.add(*at, *delay));
        envelope
    }

    #[test]
    fn rounding_is_that_of_the_library() {
        let near = 0.5_f64.next_down();
        for number in
            [0.0, near, 0.5, 1.5, 2.5, 2.5_f64.next_up(), 1e9 + 0.5, 4_503_599_627_370_495.5, 1e18, 1e300, f64::NAN]
        {
            for number in [number, -number] {
                assert_eq!(rounded(number), number.round() as i64, "{number}");
            }
        }
    }

    #[test]
    fn a_hull_keeps_what_no_line_goes_under() {
        let hull = envelope(&[(0, 5), (1, 3), (2, 9), (3, 1), (4, 8), (5, 2)]);
        assert_eq!(hull.corners, [(0.0, 0.0), (1.0, -2.0), (3.0, -4.0), (5.0, -3.0)]);
        let straight = envelope(&[(0, 5), (10, 5), (20, 5), (30, 5)]);
        assert_eq!(straight.corners, [(0.0, 0.0), (30.0, 0.0)]);
    }

    #[test]
    fn a_hull_stays_bounded_whatever_the_clock_does() {
        let mut bent = Envelope::default();
        (0..100_000_i64).for_each(|at| bent.add(at * 1000, at * at));
        assert!(bent.corners.len() <= CORNERS, "{}", bent.corners.len());
    }

    #[test]
    fn skew_and_offset_of_exact_delays_are_exact() {
        let (skew, offset) = (50e-6, 3_600_000_000_000_i64);
        let ahead = |at: i64| offset + (at as f64 * skew).round() as i64;
        let forward = envelope(&(0..1000).map(|n| n * 1_000_000).map(|at| (at, 7000 + ahead(at))).collect::<Vec<_>>());
        let backward: Vec<_> = (0..1000).map(|n| n * 1_000_000 + 20_000).map(|at| (at, 7000 - ahead(at))).collect();
        let found = estimate(&forward, &envelope(&backward), 0).unwrap();
        assert!((found.line.skew - skew).abs() < 1e-8, "{}", found.line.skew);
        assert!((found.line.offset as f64 + found.line.fraction - offset as f64).abs() < 5.0, "{found:?}");
        assert!((found.half_gap - 7000.0).abs() < 5.0, "{found:?}");
        for at in [0, 1_000_000_000_i64] {
            assert!((found.line.forward(7000 + ahead(at), at) - 7000).abs() <= 5);
            assert!((found.line.backward(7000 - ahead(at), at) - 7000).abs() <= 5);
        }
    }

    #[test]
    fn too_few_packets_have_no_skew() {
        let found = estimate(&envelope(&[(0, 120)]), &envelope(&[(50, -80)]), 0).unwrap();
        assert_eq!((found.without_skew, found.line.skew, found.half_gap), (Some(WithoutSkew::TooFew), 0.0, 20.0));
        assert_eq!((found.line.forward(120, 0), found.line.backward(-80, 50)), (20, 20));
        assert_eq!(estimate(&envelope(&[(0, 120)]), &Envelope::default(), 0), None);
        // Many, of which those of one direction came after those of the other.
        let of = |from: i64| envelope(&(from..from + 100).map(|at| (at, 10)).collect::<Vec<_>>());
        assert_eq!(estimate(&of(0), &of(1000), 0).unwrap().without_skew, Some(WithoutSkew::NoOverlap));
    }
}
