//! What the statistics in the meta files say of packets that have no row though they were there.
//!
//! A packet without the stamp that was asked for has no row. The rows alone do not tell it from one that was lost.

use super::Report;
use super::recognise::Side;
use super::survey::Kind;
use serde_json::Value;

/// Of one side's statistics, what bears on its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    rx_stamps_missed: u64,
    tx_stamps_missed: u64,
    stamps_withheld: u64,
    rows_lost: u64,
    /// Pings that asked for a pong and got none, with a row or without; `None` on a side that cannot tell.
    lost: Option<u64>,
}

impl Counted {
    /// From the meta file's `summary`; `None` of a session that was not over.
    pub(super) fn of(session: &Value) -> Option<Self> {
        let summary = session.get("summary").filter(|summary| summary.is_object())?;
        let number = |name| summary.get(name).and_then(Value::as_u64);
        let count = |name| number(name).unwrap_or_default();
        Some(Self {
            rx_stamps_missed: count("rx_stamps_missed"),
            tx_stamps_missed: count("tx_stamps_missed"),
            stamps_withheld: count("stamps_withheld"),
            rows_lost: count("rows_lost"),
            lost: number("lost"),
        })
    }

    /// What has no row, in words; `None` where everything has one.
    fn words(&self, kind: Kind) -> Option<String> {
        let (sent, received) = match kind {
            Kind::Pinging => ("pings", "pongs"),
            Kind::Echoing => ("pongs", "pings"),
            Kind::DuplexClient | Kind::DuplexServer | Kind::DuplexBoth => ("pings", "pings"),
            Kind::BothSides | Kind::Empty => ("packets", "packets"),
        };
        let parts = [
            (self.rx_stamps_missed, format!("{received} that came without a stamp")),
            (self.tx_stamps_missed, format!("{sent} that were sent and whose stamp did not come")),
            (self.stamps_withheld, format!("{sent} that were sent without one, as another's was under way")),
            (self.rows_lost, "more, whose rows did not get into it".to_owned()),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts.map(|(count, words)| format!("{count} {words}")).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Says of each side which packets have no row, and what that may do to the counts. They stay those of the rows: of most
/// packets nobody knows which they were.
pub(super) fn remark(report: &mut Report, sides: &[&Side]) {
    for side in sides {
        let Some(counted) = side.meta.as_ref().and_then(|meta| meta.counted) else { continue };
        let (name, kind) = (side.log.path.display(), side.log.kind);
        let own = counted.lost.filter(|_| kind == Kind::Pinging).map(|lost| {
            format!(
                "The program itself counted {lost} ping(s) without a pong, of all that it sent, with a row or without."
            )
        });
        let Some(words) = counted.words(kind) else {
            // The other side may have sent them without a stamp, of which this one knows nothing.
            let is_alone = sides.iter().filter(|side| side.log.kind != Kind::Empty).count() == 1;
            // What is damaged, or came too late, is no row either.
            let is_alone = is_alone && report.damaged_rows() == 0 && report.late_rows == 0;
            if let (true, Some(own), Some(lost)) =
                (is_alone, own, report.lost.filter(|lost| Some(*lost) > counted.lost))
            {
                report.remarks.push(format!(
                    "{lost} packet(s) count as lost, as {name} has no row of their pong. {own} The others' may have come \
                     without a stamp."
                ));
            }
            continue;
        };
        let mut remark = format!("{name} has no rows of {words}, as its meta file says.");
        let Counted { rx_stamps_missed, tx_stamps_missed, stamps_withheld, rows_lost, .. } = counted;
        let unsent = tx_stamps_missed.saturating_add(stamps_withheld).saturating_add(rows_lost);
        // A pong that was sent not to be stamped has no row where it arrives either.
        let withheld = if kind == Kind::Echoing { stamps_withheld } else { 0 };
        let arrived = rx_stamps_missed.saturating_add(withheld).saturating_add(rows_lost);
        match report.lost {
            Some(lost) if lost.min(arrived) > 0 => {
                remark += &format!(" Of the {lost} that count as lost up to {} may have arrived.", lost.min(arrived));
            }
            None if kind == Kind::Echoing && report.unanswered.min(unsent) > 0 => {
                let unanswered = report.unanswered;
                let most = unanswered.min(unsent);
                remark +=
                    &format!(" Of the {unanswered} that count as unanswered up to {most} may have been answered.");
            }
            _ => {}
        }
        if kind != Kind::Echoing && unsent > 0 {
            remark += " A ping that no log has a row of does not count as sent.";
        }
        if let Some(own) = own {
            remark = format!("{remark} {own}");
        }
        report.remarks.push(remark);
    }
}
