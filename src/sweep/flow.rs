//! What became of a step's dummies, and what kept them from their target.

/// Of a thousand that were due so many may be missing, and the target is reached all the same.
pub(super) const TOLERATED_PER_MILLE: u64 = 10;

/// What kept a target from being reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// The loop that was to send was late: this machine was not fast enough.
    Cpu,
    /// This machine's kernel or card did not take what was handed to it.
    Ring,
    /// It was sent, and did not come, or came later and later.
    Link,
    /// The server granted less, or dropped what had reached it.
    Server,
}

impl Limit {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Ring => "ring",
            Self::Link => "link",
            Self::Server => "server",
        }
    }
}

/// Numbers of dummies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flow {
    /// What the plan wanted sent.
    pub(super) due: u64,
    /// What was handed over to be sent, and not dropped by this machine.
    pub(super) sent: u64,
    /// Not sent in time.
    pub(super) late: u64,
    /// Not taken: a full ring, or dropped by this machine's kernel before it left.
    pub(super) refused: u64,
    /// What the server counted; `None` where it could not say.
    pub(super) received: Option<u64>,
    /// What the server's machine dropped before the server saw it.
    pub(super) dropped: Option<u64>,
    /// How long they took to leave, in ns.
    pub(super) sending_ns: u64,
    /// How long they took to come, from the first to the last, in ns; `None` where the server could not say.
    pub(super) span_ns: Option<u64>,
}

/// Dummies that take longer to come than to leave by less than this are not held up: either side may be off its CPU for a moment.
const HELD_UP_NANOS: u64 = 20_000_000;

impl Flow {
    /// What was sent and is missing, wherever it was lost; `None` where the server has not said what came.
    pub(super) fn lost(&self) -> Option<u64> {
        Some(self.sent.saturating_sub(self.received?))
    }

    /// Of those, what the server's machine dropped: what it counts has pings in it too. `None` where that is not known.
    pub(super) fn dropped_of_lost(&self) -> Option<u64> {
        Some(self.dropped?.min(self.lost().unwrap_or(u64::MAX)))
    }

    /// How long they took to come, in ns, where that is longer than they took to leave by more than is tolerated: a queue on the way
    /// grew, and nothing was lost only because the step ended before the queue was full.
    pub(super) fn held_up_ns(&self) -> Option<u64> {
        let gaps = self.received?.checked_sub(1).filter(|gaps| *gaps > 0)?;
        // As many gaps as dummies: the last one takes its time too.
        let span = u64::try_from(u128::from(self.span_ns?) * u128::from(gaps + 1) / u128::from(gaps)).ok()?;
        let tolerated = (self.sending_ns / 1000 * TOLERATED_PER_MILLE).max(HELD_UP_NANOS);
        (span > self.sending_ns.saturating_add(tolerated)).then_some(span)
    }
}

/// The largest of what is missing, where more is than is tolerated.
pub(super) fn limit(flow: &Flow, wanted_pps: u64, granted_pps: u64) -> Option<Limit> {
    if granted_pps < wanted_pps {
        return Some(Limit::Server);
    }
    let Flow { due, sent, late, refused, received, .. } = *flow;
    // Without the server's word nothing is known of the way.
    let received = received?;
    let missing = due.saturating_sub(received);
    if let Some(span) = flow.held_up_ns() {
        // What the queue held back for longer is more than all that is missing.
        let [behind, absent] =
            [(span - flow.sending_ns, due), (missing, span)].map(|(a, b)| u128::from(a) * u128::from(b));
        if behind >= absent {
            return Some(Limit::Link);
        }
    }
    if missing * 1000 <= due * TOLERATED_PER_MILLE {
        return None;
    }
    let lost = sent.saturating_sub(received);
    let at_server = flow.dropped_of_lost().unwrap_or(0);
    let causes =
        [(late, Limit::Cpu), (refused, Limit::Ring), (at_server, Limit::Server), (lost - at_server, Limit::Link)];
    causes.into_iter().max_by_key(|(count, _)| *count).map(|(_, limit)| limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_loss_names_the_limit() {
        let all = Flow { due: 10_000, sent: 10_000, received: Some(10_000), dropped: Some(0), ..Flow::default() };
        assert_eq!(limit(&all, 5000, 5000), None);
        assert_eq!(limit(&all, 5000, 4999), Some(Limit::Server), "the server granted less");
        // A hundredth is nobody's fault, more than that is.
        assert_eq!(limit(&Flow { received: Some(9900), ..all }, 1, 1), None);
        assert_eq!(limit(&Flow { received: Some(9899), ..all }, 1, 1), Some(Limit::Link));
        let half = Flow { sent: 5000, received: Some(5000), ..all };
        assert_eq!(limit(&Flow { late: 5000, ..half }, 1, 1), Some(Limit::Cpu));
        assert_eq!(limit(&Flow { late: 2000, refused: 3000, ..half }, 1, 1), Some(Limit::Ring));
        let lossy = Flow { received: Some(4000), ..all };
        assert_eq!(limit(&Flow { dropped: Some(3500), ..lossy }, 1, 1), Some(Limit::Server));
        assert_eq!(limit(&Flow { dropped: Some(2500), ..lossy }, 1, 1), Some(Limit::Link));
        assert_eq!(limit(&Flow { dropped: None, ..lossy }, 1, 1), Some(Limit::Link));
        // Where the server has not said what came, nothing is known.
        assert_eq!(limit(&Flow { received: None, dropped: None, ..all }, 1, 1), None);
        // All came, but behind a queue that let three quarters of the rate through.
        let second = 1_000_000_000;
        let queued = Flow { sending_ns: 3 * second, span_ns: Some(4 * second - 400_000), ..all };
        assert_eq!(limit(&queued, 1, 1), Some(Limit::Link));
        // Two in a hundred were late besides, which is less than the quarter that the queue held back, and then half of all.
        let late = |late| Flow { late, sent: 10_000 - late, received: Some(10_000 - late), ..queued };
        assert_eq!([limit(&late(200), 1, 1), limit(&late(5000), 1, 1)], [Some(Limit::Link), Some(Limit::Cpu)]);
        assert_eq!(queued.held_up_ns(), Some(4 * second - 400_000 + (4 * second - 400_000) / 9_999));
        assert_eq!(Flow { span_ns: Some(3 * second + 29_000_000), ..queued }.held_up_ns(), None, "a hundredth");
        assert_eq!(Flow { span_ns: None, ..queued }.held_up_ns(), None);
        assert_eq!(Flow { received: Some(1), ..queued }.held_up_ns(), None, "one has no span");
        let short = Flow { sending_ns: second / 10, span_ns: Some(second / 10 + 19_000_000), ..all };
        assert_eq!(short.held_up_ns(), None, "as long as a side may be off its CPU");
        assert_eq!(all.lost(), Some(0));
        assert_eq!(Flow { received: None, ..all }.lost(), None);
    }
}
