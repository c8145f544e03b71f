//! What all sessions of a server of many clients have come to together, and how it is told while it runs (`SIGUSR1`).

use super::summary::{ENDS, end_name};
use super::text::Stream;
use crate::session::{End, Totals};
use serde::Serialize;

/// What all sessions of a server of many clients have come to. Numbers of sessions, unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crowd {
    /// Those that stand.
    pub standing: u64,
    /// Those that began.
    pub begun: u64,
    /// Those that are over, by how they ended: in the order of `ENDS`.
    pub ended: [u64; ENDS.len()],
    /// SYNs that were refused.
    pub refused: u64,
    /// Datagrams that were dropped unanswered as they were beyond their sender's share.
    pub excess: u64,
}

impl Crowd {
    /// One more session is over. Not for the hot loop.
    pub fn ends(&mut self, end: End) {
        let name = end_name(end);
        if let Some(at) = ENDS.iter().position(|known| *known == name) {
            self.ended[at] += 1;
        }
    }

    /// How many are over.
    pub fn over(&self) -> u64 {
        self.ended.iter().sum()
    }
}

/// The JSON object for `SIGUSR1`: datagrams, unless said otherwise.
#[derive(Serialize)]
struct Object {
    /// `so_far`: what tells it from the statistics of a session.
    #[serde(rename = "type")]
    kind: &'static str,
    /// `running`
    end: &'static str,
    /// Sessions that stand.
    sessions: u64,
    sessions_begun: u64,
    sessions_over: u64,
    /// SYNs that were refused.
    clients_refused: u64,
    transmitted: u64,
    received: u64,
    pings_received: u64,
    pongs_sent: u64,
    pings_sent: u64,
    dummies_received: u64,
    dummies_sent: u64,
    foreign: u64,
    unexpected: u64,
    late_sends: u64,
    skipped_slots: u64,
    excess: u64,
}

/// How things stand and where that goes, as [`super::so_far`] has it of one session: JSON to stdout, text to stderr.
pub(super) fn words(crowd: &Crowd, totals: &Totals, json: bool) -> (Stream, String) {
    let Totals { transmitted, received, pings_received, pongs_sent, pings_sent, .. } = *totals;
    let Crowd { standing, begun, refused, excess, .. } = *crowd;
    let over = crowd.over();
    if !json {
        let mut text = format!("{standing} sessions stand, {over} are over.\n--- all sessions so far ---\n");
        text += &format!("received {pings_received} pings, sent {pongs_sent} pongs and {pings_sent} pings");
        for (count, words) in [
            (refused, "clients were refused"),
            (excess, "datagrams were dropped beyond their sender's share"),
            (totals.unexpected, "datagrams made no sense where they came"),
            (totals.late_sends, "pings left late"),
        ] {
            if count > 0 {
                text += &format!("\n{count} {words}");
            }
        }
        return (Stream::Err, text);
    }
    let object = Object {
        kind: "so_far",
        end: "running",
        sessions: standing,
        sessions_begun: begun,
        sessions_over: over,
        clients_refused: refused,
        transmitted,
        received,
        pings_received,
        pongs_sent,
        pings_sent,
        dummies_received: totals.dummies_received,
        dummies_sent: totals.dummies_sent,
        foreign: totals.foreign,
        unexpected: totals.unexpected,
        late_sends: totals.late_sends,
        skipped_slots: totals.skipped_slots,
        excess,
    };
    (Stream::Out, serde_json::to_string(&object).expect("numbers and fixed names always become JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Extension;
    use serde_json::Value;
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::time::Duration;

    #[test]
    fn every_end_has_its_count() {
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        let (waited, after) = (Duration::ZERO, Duration::ZERO);
        let ends = [
            End::Complete,
            End::Stopped,
            End::StoppedConnecting,
            End::Rejected,
            End::NotAgreed { server, missing: Extension::default() },
            End::NoAnswer { waited },
            End::TimedOut { after },
            End::FloodUnanswered { after },
            End::FinUnanswered { waited },
            End::PeerStopped,
            End::Broken,
        ];
        let mut crowd = Crowd::default();
        ends.into_iter().for_each(|end| crowd.ends(end));
        assert_eq!((crowd.ended, crowd.over()), ([1; ENDS.len()], ENDS.len() as u64));
        crowd.ends(End::TimedOut { after });
        let at = ENDS.iter().position(|name| *name == "timed_out").unwrap();
        assert_eq!(crowd.ended[at], 2);
    }

    #[test]
    fn all_sessions_are_told_of_together() {
        let mut crowd = Crowd { standing: 2, begun: 3, refused: 4, ..Crowd::default() };
        crowd.ends(End::Complete);
        let totals = Totals { pings_received: 7, pongs_sent: 6, pings_sent: 5, ..Totals::default() };
        let (stream, text) = words(&crowd, &totals, false);
        assert_eq!(stream, Stream::Err);
        assert_eq!(
            text,
            "2 sessions stand, 1 are over.\n--- all sessions so far ---\nreceived 7 pings, sent 6 pongs and 5 pings\n\
             4 clients were refused"
        );
        let (stream, text) = words(&crowd, &totals, true);
        assert_eq!((stream, text.lines().count()), (Stream::Out, 1));
        let object: Value = serde_json::from_str(&text).unwrap();
        let found = ["sessions", "sessions_begun", "sessions_over", "clients_refused", "pongs_sent", "excess"]
            .map(|name| object[name].as_u64());
        assert_eq!(found, [2, 3, 1, 4, 6, 0].map(Some));
        assert_eq!((&object["type"], &object["end"]), (&"so_far".into(), &"running".into()));
    }
}
