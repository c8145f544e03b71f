//! The lines that a person reads while it runs: nanoprobe's where it has them, ours elsewhere.
//!
//! nanoprobe's lines keep nanoprobe's name, so that what reads its output reads ours. Nothing here prints.

use super::Role;
use crate::session::{Correction, End, Event, PtpRefusal, Settings};
use crate::wire::ptp::Transport;
use crate::wire::{Extension, Kind};
use std::net::SocketAddrV4;
use std::time::Duration;

/// Who speaks, and where to: decides which lines there are and which of them may go to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voice {
    /// Which side this is.
    pub role: Role,
    /// stdout belongs to one JSON object: every line goes to stderr.
    pub json: bool,
}

/// A terminal that shows something which other output must not be mixed with.
pub trait Screen: Send + Sync + std::fmt::Debug {
    /// Makes room, has it printed, and shows again what was there.
    fn aside(&self, print: &mut dyn FnMut());
}

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// What nanoprobe prints to stdout.
    Out,
    /// Warnings and errors.
    Err,
}

/// The first line of a client; `host` as the user typed it.
pub fn client_start(host: &str, port: u16) -> String {
    format!("nanoprobe {host}:{port}...")
}

/// The first line of a server.
pub fn server_start(port: u16) -> String {
    format!("nanoprobe server started on port {port}.")
}

/// A server's line on a client that it accepted.
pub fn connected(peer: SocketAddrV4) -> String {
    format!("Connected to client {peer}")
}

/// A server's line on what a session does; sizes are padding without headers, as in the SYN.
pub fn settings(settings: &Settings) -> String {
    let Settings { count_s, delay_us, ping_padding, pong_padding, pong_every, .. } = settings;
    let (timer, direction) = (settings.timer, settings.direction);
    let raw = settings.to_raw();
    format!(
        "Client using settings: count: {count_s} s, delay: {delay_us} us, ping-padding {ping_padding} bytes, \
         pong-padding {pong_padding} bytes, pong-every: {pong_every}, timer: {} ({}), direction: {} ({})",
        timer.as_str(),
        raw.timer,
        direction.as_str(),
        raw.direction,
    )
}

/// The two lines on a client's value that was out of range.
pub fn corrected(correction: &Correction) -> String {
    let Correction { setting, asked, min, max, used, used_name } = correction;
    let instead = match used_name {
        Some(name) => format!("{name} ({used})"),
        None => used.to_string(),
    };
    format!("Warning: Client has set {setting} {asked}, must be in [{min}, {max}]\nUsing {setting} {instead} instead")
}

/// What a session's end has to say on stderr, with what to do; `None` where it went as planned.
pub fn end(end: End) -> Option<String> {
    Some(match end {
        // What broke is an error of its own.
        End::Complete | End::Stopped | End::Broken => return None,
        End::StoppedConnecting => "Stopped before the server answered: nothing was measured.".to_string(),
        // The first line is nanoprobe's.
        End::Rejected => "Remote node rejected connection\n\
             The server has another client or, with --clients, as many as it serves, or cannot serve what was asked for (sizes, \
             PTP headers or their absence; with --clients --reverse, a flood or its other path): its stderr says which; try \
             again later, or ask for something else."
            .to_string(),
        End::NotAgreed { server, missing } => not_agreed(server, &missing),
        End::NoAnswer { waited } => format!(
            "The server did not answer for {}: check that it runs, that address and port are its own, \
             and that no firewall drops its UDP port; or raise --connect-timeout.",
            duration(waited)
        ),
        End::TimedOut { after } => format!(
            "Nothing was received for {}: the other side or the way to it is gone. \
             What was measured until then is below; where such silence is expected, raise --timeout.",
            duration(after)
        ),
        End::FloodUnanswered { after } => format!(
            "The server was not heard of for {} while it was flooded, and the flood was stopped: it is gone, or neither its \
             answers nor the pings get through such a load. What was measured until then is below.",
            duration(after)
        ),
        End::FinUnanswered { waited } => format!(
            "The other side did not confirm the end of the session within {}: all pings were sent, \
             but its own log and statistics may be incomplete.",
            duration(waited)
        ),
        End::PeerStopped => {
            "The other side was stopped by its user: the measurement ended before its time.".to_string()
        }
    })
}

/// A client's line on a server that accepts and does not grant what was asked for.
fn not_agreed(server: SocketAddrV4, missing: &Extension) -> String {
    let Extension { ptp, in_band, serve_on, account, load } = missing;
    let flags = [(ptp.is_some(), "--ptp"), (*in_band, "--in-band")];
    let others = [
        (serve_on.is_some(), "the choice of the server's path"),
        (*account, "an account of what the server counted"),
        (load.is_some(), "a flood of dummies"),
    ];
    let names = |of: &[(bool, &'static str)]| -> Vec<&str> {
        of.iter().filter(|(is_missing, _)| *is_missing).map(|(_, name)| *name).collect()
    };
    let (flags, others) = (names(&flags), names(&others));
    let advice = match others.is_empty() {
        true => format!(", or leave {} out", flags.join(" and ")),
        false => String::new(),
    };
    let all = [flags, others].concat();
    let need = if all.len() == 1 { "needs" } else { "need" };
    format!(
        "The server at {server} does not answer the extension that {} {need}: it is a nanoprobe, or an xdprobe that is too \
         old: run this xdprobe there{advice}.",
        all.join(" and ")
    )
}

/// Turns events into lines, in the order in which they happened.
#[derive(Debug)]
pub struct Narrator {
    voice: Voice,
    in_session: bool,
    limit: Limit,
}

impl Narrator {
    /// A narrator before the first session.
    pub fn new(voice: Voice) -> Self {
        Self { voice, in_session: false, limit: Limit::default() }
    }

    /// Who speaks.
    pub(super) const fn voice(&self) -> Voice {
        self.voice
    }

    /// The line or lines of an event at `now_nanos` (of any clock that does not run backwards), without a final line
    /// feed; `None` where there is nothing to say.
    ///
    /// What strangers can cause without end is said at most [`PER_SECOND`] times a second.
    pub fn tell(&mut self, event: &Event, now_nanos: u64) -> Option<(Stream, String)> {
        if is_strangers(event) && !self.limit.allows(now_nanos) {
            return None;
        }
        let (stream, text) = match event {
            Event::Connected { peer, settings: agreed } => {
                self.in_session = true;
                match self.voice.role {
                    // A client knows whom it called.
                    Role::Client => return None,
                    Role::Server => (Stream::Out, format!("{}\n{}", connected(*peer), settings(agreed))),
                }
            }
            Event::Disconnected => (Stream::Out, "Client disconnected.".to_string()),
            Event::Finished(how) => {
                self.in_session = false;
                (Stream::Err, end(*how)?)
            }
            Event::Corrected(correction) => (Stream::Err, corrected(correction)),
            Event::StillConnecting { waited } => (
                Stream::Err,
                format!(
                    "No answer from the server for {}: is it running, and does its UDP port get through? \
                     Still trying; Ctrl-C ends it.",
                    duration(*waited)
                ),
            ),
            Event::Refused { from } => {
                (Stream::Err, format!("Connection already established, drop new connection request from {from}."))
            }
            Event::RefusedSize { from, ip_len, limit } => (
                Stream::Err,
                format!(
                    "Refused {from}: it asks for packets of {ip_len} bytes, and the interface's MTU is {limit}: \
                     start this server with --path kernel, or the client with at most --ping-size {limit} and \
                     --pong-size {limit}."
                ),
            ),
            Event::RefusedPtp { from, transport, why } => (Stream::Err, refused_ptp(*from, *transport, *why)),
            Event::RefusedPlain { from } => (
                Stream::Err,
                format!(
                    "Refused {from}: this network card stamps only PTP packets on receipt, so that the client must run \
                     with --ptp; or start this server with --timestamps software."
                ),
            ),
            Event::RefusedPath { from, path } => (
                Stream::Err,
                format!(
                    "Refused {from}: it asks to be served on the {} path, which is not to be had here: see the line before.",
                    path.as_str()
                ),
            ),
            Event::RefusedFull { from, clients } => (
                Stream::Err,
                format!("Refused {from}: all {clients} places are taken: raise --clients, or let it try again later."),
            ),
            Event::RefusedShared { from, what } => (
                Stream::Err,
                format!(
                    "Refused {from}: it asks {what}, which a server with --clients does not do: start one without."
                ),
            ),
            Event::LoadExceeded { from, granted, received, within } => (
                Stream::Err,
                format!(
                    "{from} sent {received} dummies within {}: more than the {granted} a second that it was granted.",
                    duration(*within)
                ),
            ),
            Event::Ignored { from, .. } if self.in_session => {
                (Stream::Err, format!("Connection already established, drop packet from {from}."))
            }
            Event::Ignored { from, kind: Kind::Syn } => {
                (Stream::Err, format!("Ignored a SYN from {from}: it is too short to carry settings."))
            }
            Event::Ignored { from, kind } => {
                (Stream::Err, format!("Ignored a {} from {from}: it has no session here.", kind_name(*kind)))
            }
        };
        Some((if self.voice.json { Stream::Err } else { stream }, text))
    }

    /// The line on what was left unsaid since the last call, `missed` of it before it came here.
    pub fn tell_unsaid(&mut self, missed: u64) -> Option<String> {
        match std::mem::take(&mut self.limit.unsaid) + missed {
            0 => None,
            1 => Some("1 more message like these was left out.".to_string()),
            unsaid => Some(format!("{unsaid} more messages like these were left out.")),
        }
    }
}

/// A server's line on a client whose pings and pongs it cannot have behind PTP headers.
fn refused_ptp(from: SocketAddrV4, transport: Transport, why: PtpRefusal) -> String {
    let name = transport.as_str();
    let why = match why {
        PtpRefusal::NotOffered => "which is not to be had here: leave it out there".to_string(),
        PtpRefusal::NotReady => "which could not be got ready here: see the line before".to_string(),
        PtpRefusal::Schedule { ip_len } => format!(
            "and the schedule here has a ping of {ip_len} bytes: make none smaller than {}",
            transport.min_ip_len()
        ),
    };
    format!("Refused {from}: it asks for --ptp {name}, {why}.")
}

/// Whether somebody who has no session here can cause it as often as they like.
pub(super) const fn is_strangers(event: &Event) -> bool {
    matches!(
        event,
        Event::Refused { .. }
            | Event::RefusedSize { .. }
            | Event::RefusedPtp { .. }
            | Event::RefusedPlain { .. }
            | Event::RefusedPath { .. }
            | Event::RefusedFull { .. }
            | Event::RefusedShared { .. }
            | Event::Ignored { .. }
    )
}

/// How many messages about strangers are said in a second.
pub const PER_SECOND: u32 = 5;

/// Lets through [`PER_SECOND`] in each second and counts the rest.
#[derive(Debug, Default)]
struct Limit {
    second: Option<u64>,
    said: u32,
    unsaid: u64,
}

impl Limit {
    fn allows(&mut self, now_nanos: u64) -> bool {
        let second = Some(now_nanos / 1_000_000_000);
        if self.second != second {
            self.second = second;
            self.said = 0;
        }
        let allowed = self.said < PER_SECOND;
        self.said += u32::from(allowed);
        self.unsaid += u64::from(!allowed);
        allowed
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Syn => "SYN",
        Kind::SynAck => "SYN-ACK",
        Kind::SynRst => "SYN-RST",
        Kind::Ping => "ping",
        Kind::Pong => "pong",
        Kind::Fin => "FIN",
        Kind::FinAck => "FIN-ACK",
        Kind::Dummy => "dummy",
    }
}

/// Seconds, with milliseconds where there are some.
fn duration(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (0, 0) => format!("{} us", duration.as_micros()),
        (0, millis) => format!("{millis} ms"),
        (seconds, 0) => format!("{seconds} s"),
        (seconds, millis) => format!("{seconds}.{millis:03} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Direction, TimerKind};

    const PEER: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 66, 0, 1), 55411);

    fn server() -> Narrator {
        Narrator::new(Voice { role: Role::Server, json: false })
    }

    fn err(text: &str) -> Option<(Stream, String)> {
        Some((Stream::Err, text.to_string()))
    }

    #[test]
    fn a_session_is_told_in_nanoprobes_lines() {
        let mut narrator = server();
        let agreed = Settings { count_s: 1, delay_us: 10_000, timer: TimerKind::Sleep, ..Settings::default() };
        let connected = Event::Connected { peer: PEER, settings: agreed };
        let lines = "Connected to client 10.66.0.1:55411\nClient using settings: count: 1 s, delay: 10000 us, \
                     ping-padding 0 bytes, pong-padding 0 bytes, pong-every: 1, timer: sleep (0), direction: forward (0)";
        assert_eq!(narrator.tell(&connected, 0), Some((Stream::Out, lines.to_string())));
        let refused = "Connection already established, drop new connection request from 10.66.0.1:55411.";
        assert_eq!(narrator.tell(&Event::Refused { from: PEER }, 0), err(refused));
        let dropped = "Connection already established, drop packet from 10.66.0.1:55411.";
        assert_eq!(narrator.tell(&Event::Ignored { from: PEER, kind: Kind::Dummy }, 0), err(dropped));
        let gone = Some((Stream::Out, "Client disconnected.".to_string()));
        assert_eq!(narrator.tell(&Event::Disconnected, 0), gone);
        assert_eq!(narrator.tell(&Event::Finished(End::Complete), 0), None);
        let ignored = "Ignored a dummy from 10.66.0.1:55411: it has no session here.";
        assert_eq!(narrator.tell(&Event::Ignored { from: PEER, kind: Kind::Dummy }, 0), err(ignored));
    }

    #[test]
    fn a_client_is_silent_on_its_own_connection() {
        let mut narrator = Narrator::new(Voice { role: Role::Client, json: false });
        let settings = Settings { direction: Direction::Duplex, ..Settings::default() };
        assert_eq!(narrator.tell(&Event::Connected { peer: PEER, settings }, 0), None);
    }

    #[test]
    fn with_json_every_line_goes_to_stderr() {
        let mut narrator = Narrator::new(Voice { role: Role::Server, json: true });
        assert_eq!(narrator.tell(&Event::Disconnected, 0), err("Client disconnected."));
    }

    #[test]
    fn a_replaced_value_is_told_in_two_lines() {
        let correction =
            Correction { setting: "ping padding", asked: 3000, min: 0, max: 2048, used: 2048, used_name: None };
        let lines = "Warning: Client has set ping padding 3000, must be in [0, 2048]\nUsing ping padding 2048 instead";
        assert_eq!(corrected(&correction), lines);
        let correction = Correction { setting: "timer type", used: 1, used_name: Some("busy"), ..correction };
        assert!(corrected(&correction).ends_with("\nUsing timer type busy (1) instead"));
    }

    #[test]
    fn a_refused_size_names_the_limit_and_the_way_out() {
        let (_, text) = server().tell(&Event::RefusedSize { from: PEER, ip_len: 2000, limit: 1500 }, 0).unwrap();
        for part in ["10.66.0.1:55411", "2000 bytes", "MTU is 1500", "--path kernel"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_client_with_or_without_ptp_is_refused_with_the_reason_and_the_way_out() {
        let refused = |why| Event::RefusedPtp { from: PEER, transport: Transport::L2, why };
        for (event, parts) in [
            (Event::RefusedPlain { from: PEER }, ["stamps only PTP packets", "with --ptp"]),
            (refused(PtpRefusal::NotOffered), ["--ptp l2", "leave it out"]),
            (refused(PtpRefusal::NotReady), ["--ptp l2", "see the line before"]),
            (refused(PtpRefusal::Schedule { ip_len: 60 }), ["a ping of 60 bytes", "smaller than 84"]),
        ] {
            let (stream, text) = server().tell(&event, 0).unwrap();
            assert_eq!(stream, Stream::Err);
            for part in ["10.66.0.1:55411", parts[0], parts[1]] {
                assert!(text.contains(part), "{text}");
            }
            assert!(is_strangers(&event));
        }
    }

    #[test]
    fn a_flood_is_cut_to_a_few_a_second_and_counted() {
        let mut narrator = server();
        let event = Event::Refused { from: PEER };
        let said = (0..1000).filter(|_| narrator.tell(&event, 5).is_some()).count();
        assert_eq!(said, PER_SECOND as usize);
        assert!(narrator.tell(&event, 1_000_000_000).is_some());
        assert_eq!(narrator.tell_unsaid(5).as_deref(), Some("1000 more messages like these were left out."));
        assert_eq!(narrator.tell_unsaid(0), None);
    }

    #[test]
    fn what_happens_once_is_never_cut() {
        let mut narrator = server();
        for _ in 0..100 {
            assert!(narrator.tell(&Event::Disconnected, 0).is_some());
        }
    }

    #[test]
    fn an_end_that_is_no_success_says_so() {
        assert!(end(End::Rejected).unwrap().starts_with("Remote node rejected connection\n"));
        let text = end(End::TimedOut { after: Duration::from_micros(500_000) }).unwrap();
        assert!(text.contains("500 ms") && text.contains("--timeout"), "{text}");
        let ptp = Extension { ptp: Some(Transport::Udp), ..Extension::default() };
        let text = |missing| end(End::NotAgreed { server: PEER, missing }).unwrap();
        let said = text(ptp);
        assert!(said.contains("10.66.0.1:55411 does not answer the extension that --ptp needs:"), "{said}");
        assert!(said.ends_with("run this xdprobe there, or leave --ptp out."), "{said}");
        let said = text(Extension { in_band: true, ..ptp });
        assert!(
            said.contains("that --ptp and --in-band need:") && said.contains("leave --ptp and --in-band out."),
            "{said}"
        );
        let said = text(Extension { in_band: true, ..Extension::default() });
        assert!(said.contains("that --in-band needs:") && !said.contains("--ptp"), "{said}");
        let said = text(Extension { account: true, ..Extension::default() });
        assert!(said.contains("an account") && said.ends_with("run this xdprobe there."), "{said}");
        assert_eq!((end(End::Complete), end(End::Stopped)), (None, None));
        assert!(end(End::NoAnswer { waited: Duration::from_millis(1500) }).unwrap().contains("1.500 s"));
    }
}
