//! Every golden session replayed: one side is ours, the other is what nanoprobe sent, and ours must send what it sent.
//!
//! A recorded datagram of the other side is delivered once ours has sent all that stands before it; otherwise the time
//! goes on from deadline to deadline. So moments are not compared, but kinds, sequences, every byte, and the rows of the
//! log. What differs, and only that, is named in [`Replay::is_allowed_beyond`].

#[path = "support/pcap.rs"]
mod pcap;

use pcap::Datagram;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use xdprobe::clock::{Monotonic, Time};
use xdprobe::session::{
    Action, Body, Client, ClientConfig, Direction, End, Event, Incoming, MAX_BODY, Machine, Offers, Outgoing, Pattern,
    Probe, Sampling, Server, ServerConfig, Settings,
};
use xdprobe::wire::ptp::Shape;
use xdprobe::wire::{DUMMY_SEQUENCE, Extension, Kind, MIN_IP_LEN, Message, Parsed, Point};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    /// The refused one of `second-client`.
    SecondClient,
    Server,
}

impl Role {
    /// The name in `exit.txt` and of the log.
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::SecondClient => "client2",
            Self::Server => "server",
        }
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn folders() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("capture.pcap").exists())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn parsed(datagram: &Datagram) -> Message {
    Message::parse(&datagram.payload).unwrap().message
}

/// The sessions of a capture: each begins with a SYN behind the FIN-ACK of the one before.
fn sessions(folder: &str) -> Vec<Vec<Datagram>> {
    let all = pcap::datagrams(&pcap::read(&golden().join(folder).join("capture.pcap")));
    let mut sessions = vec![vec![]];
    let mut done = false;
    for datagram in all {
        match parsed(&datagram).kind {
            Kind::Syn if done => {
                sessions.push(vec![]);
                done = false;
            }
            Kind::FinAck => done = true,
            _ => {}
        }
        sessions.last_mut().unwrap().push(datagram);
    }
    sessions
}

/// The value of this flag on the role's command line.
fn flag(folder: &str, role: Role, flag: &str) -> Option<String> {
    let commands = fs::read_to_string(golden().join(folder).join("cmd.txt")).unwrap();
    let own = if role == Role::Server { "--server" } else { "--client" };
    let command = commands.lines().find(|line| line.contains(own)).unwrap_or_default();
    command.split(' ').skip_while(|word| *word != flag).nth(1).map(str::to_owned)
}

fn number(folder: &str, role: Role, name: &str) -> Option<u32> {
    flag(folder, role, name).map(|value| value.parse().unwrap())
}

fn timeout(folder: &str, role: Role) -> Option<Duration> {
    Some(Duration::from_micros(number(folder, role, "--timeout").unwrap_or(5_000_000).into()))
}

fn schedule(folder: &str, role: Role) -> Option<Arc<[Probe]>> {
    let file = flag(folder, role, "--probe-schedule")?;
    let text = fs::read_to_string(golden().join(folder).join(file)).unwrap();
    let probe = |line: &str| {
        let (delay, size) = line.split_once(',').unwrap();
        Probe { delay_us: delay.parse().unwrap(), padding: size.parse::<u16>().unwrap() - MIN_IP_LEN }
    };
    Some(text.lines().map(probe).collect())
}

/// Whether the golden README says that the host that received this datagram dropped it behind the capture point.
/// `before` counts the datagrams of this kind that came before it.
fn was_dropped(folder: &str, message: Message, before: usize) -> bool {
    match (folder, message.kind) {
        ("loss", Kind::Ping) => message.sequence % 16 == 5,
        ("loss", Kind::Pong) => message.sequence % 16 == 10,
        // The server was not there yet.
        ("syn-retry", Kind::Syn) => before < 4,
        ("syn-ack-lost", Kind::SynAck) => before < 2,
        ("fin-retry", Kind::Fin) => before < 4,
        ("fin-ack-lost", Kind::FinAck) => true,
        _ => false,
    }
}

/// The exit status of the role's `nth` process; `None` where a signal ended it from outside.
fn exit(folder: &str, role: Role, nth: usize) -> Option<u32> {
    let text = fs::read_to_string(golden().join(folder).join("exit.txt")).unwrap();
    let own = |line: &&str| line.split(' ').next() == Some(role.name());
    let status = text.lines().filter(own).nth(nth).unwrap().rsplit(' ').next().unwrap().parse().ok();
    // 124 is timeout(1)'s word.
    status.filter(|status| *status != 124)
}

/// The rows of the role's log by their point: sequence and size.
type Rows = BTreeMap<String, Vec<(u64, u16)>>;

fn logged(folder: &str, role: Role, nth: usize) -> Rows {
    let text = fs::read_to_string(golden().join(folder).join(format!("{}.csv", role.name()))).unwrap();
    let mut rows = Rows::new();
    // Each start of the program writes the header again.
    let Some(part) = text.split("seq,timestamp-idx,timestamp,size\n").nth(nth + 1) else { return rows };
    for line in part.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let row = (fields[0].parse().unwrap(), fields[3].parse().unwrap());
        rows.entry(fields[1].to_owned()).or_default().push(row);
    }
    rows
}

fn payload(outgoing: &Outgoing) -> Vec<u8> {
    let mut bytes = outgoing.message.to_bytes().to_vec();
    match outgoing.body {
        Body::Padding(padding) => bytes.resize(bytes.len() + usize::from(padding), 0),
        body => bytes.extend(body.write(&mut [0; MAX_BODY]).unwrap_or_default()),
    }
    assert_eq!(outgoing.shape, Shape::Plain);
    assert_eq!(bytes.len(), usize::from(outgoing.payload_len()));
    bytes
}

/// One side of one recorded session.
struct Replay<'a> {
    label: String,
    folder: &'a str,
    role: Role,
    machine: Box<dyn Machine>,
    now: Time<Monotonic>,
    /// What ours sent and the record has not shown yet, with its receiver.
    pending: VecDeque<(SocketAddrV4, Vec<u8>)>,
    rows: Rows,
    end: Option<End>,
    pings: usize,
    /// The user stops the pinging after so many.
    stop_after: Option<usize>,
}

impl Replay<'_> {
    fn obey(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send(outgoing) => {
                    self.pings += usize::from(outgoing.message.kind == Kind::Ping);
                    self.row(outgoing.point, outgoing.message.sequence, outgoing.ip_len());
                    self.pending.push_back((outgoing.to, payload(&outgoing)));
                }
                Action::Dummies { to, count } => {
                    let dummy = Message { kind: Kind::Dummy, sequence: DUMMY_SEQUENCE };
                    self.pending.extend((0..count).map(|_| (to, dummy.to_bytes().to_vec())));
                }
                Action::Load { .. } => panic!("{}: nanoprobe floods nobody", self.label),
                Action::Tell(Event::Finished(end)) => {
                    assert_eq!(self.end, None, "{}", self.label);
                    self.end = Some(end);
                }
                Action::Tell(_) => {}
            }
        }
    }

    fn row(&mut self, point: Option<Point>, sequence: u64, ip_len: u16) {
        if let Some(point) = point {
            self.rows.entry(point.to_string()).or_default().push((sequence, ip_len));
        }
    }

    fn deliver(&mut self, datagram: &Datagram) {
        let Parsed { message, said } = Message::parse(&datagram.payload).unwrap();
        let settings = said.and_then(|said| said.settings());
        let (extension, account) = (said.and_then(|said| said.extension()), said.and_then(|said| said.account()));
        let incoming = Incoming { settings, extension, account, ..Incoming::plain(datagram.source, message) };
        let point = self.machine.handle_datagram(self.now, &incoming);
        self.row(point, message.sequence, datagram.payload.len() as u16 + 28);
        self.obey();
    }

    /// Lets the time go on until ours sends something.
    fn expect(&mut self, datagram: &Datagram) {
        for _ in 0..10 {
            if !self.pending.is_empty() {
                break;
            }
            if self.stop_after == Some(self.pings) {
                self.stop_after = None;
                self.machine.handle_stop(self.now);
            } else if let Some(deadline) = self.machine.deadline() {
                self.now = self.now.max(deadline);
                self.machine.handle_deadline(self.now);
            }
            self.obey();
        }
        let Some((to, bytes)) = self.pending.pop_front() else {
            panic!("{}: nothing is sent where nanoprobe sent {:?}", self.label, parsed(datagram));
        };
        let ours = Message::parse(&bytes).unwrap().message;
        assert_eq!(ours, parsed(datagram), "{}", self.label);
        assert_eq!((to, bytes), (datagram.destination, datagram.payload.clone()), "{}: {ours:?}", self.label);
    }

    /// The documented differences in what is sent: whatever else the record does not show is wrong.
    fn is_allowed_beyond(&self, bytes: &[u8]) -> bool {
        match (self.folder, self.role, Message::parse(bytes).unwrap().message.kind) {
            // A server stays to answer its client's repeated FINs.
            ("fin-ack-lost", Role::Server, Kind::FinAck) => self.end == Some(End::Complete),
            // The time-out begins with the SYN-ACK: without nanoprobe's sleep of 50 ms there are some pings more.
            ("timeout-pong-every-0", Role::Client, Kind::Ping) => true,
            _ => false,
        }
    }

    /// Goes on from deadline to deadline until the end of the session is told.
    fn finish(&mut self) {
        for _ in 0..100 {
            if self.end.is_some() {
                break;
            }
            let Some(deadline) = self.machine.deadline() else { break };
            self.now = self.now.max(deadline);
            self.machine.handle_deadline(self.now);
            self.obey();
        }
        let beyond: Vec<_> = self.pending.iter().filter(|(_, bytes)| !self.is_allowed_beyond(bytes)).collect();
        assert!(beyond.is_empty(), "{}: more is sent than nanoprobe sent: {beyond:?}", self.label);
    }
}

/// The plan for a side that sent these pings: one that gives just as many.
///
/// nanoprobe looks at the clock after each sleep, so that a second of pings every 10 ms has 100 or 101 of them; ours has
/// always 100. Where the record has 101, they come from a schedule: it leaves the SYN as it is.
fn plan(settings: &Settings, pings: &[&Datagram]) -> (Option<Arc<[Probe]>>, Option<usize>) {
    if settings.count_s == 0 {
        return (None, Some(pings.len()));
    }
    let grid = settings.count_s as usize * 1_000_000 / settings.delay_us as usize;
    let probe = |ping: &&Datagram| Probe { delay_us: settings.delay_us, padding: ping.payload.len() as u16 - 16 };
    ((pings.len() > grid).then(|| pings.iter().map(probe).collect()), None)
}

fn replay(folder: &str, nth: usize, session: &[Datagram], role: Role) -> Option<End> {
    let mut syns: Vec<&Datagram> = session.iter().filter(|datagram| parsed(datagram).kind == Kind::Syn).collect();
    let server = syns[0].destination;
    syns.dedup_by_key(|syn| syn.source);
    let Some(syn) = syns.get(usize::from(role == Role::SecondClient)) else { panic!("{folder} has no second client") };
    let client = syn.source;
    let raw = Message::parse(&syn.payload).unwrap().said.unwrap().settings().unwrap();
    let settings =
        Settings::from_client(raw, Extension::default(), false, |correction| panic!("{folder}: {correction:?}"));
    let own = if role == Role::Server { server } else { client };
    // Dummies leave from another port.
    let is_own = |datagram: &Datagram| match parsed(datagram).kind {
        Kind::Dummy => datagram.source.ip() == own.ip(),
        _ => datagram.source == own,
    };
    let is_ours = |datagram: &Datagram| is_own(datagram) || role == Role::Server || datagram.destination == own;
    let session: Vec<&Datagram> = session.iter().filter(|datagram| is_ours(datagram)).collect();
    let pings: Vec<&Datagram> =
        session.iter().copied().filter(|datagram| is_own(datagram) && parsed(datagram).kind == Kind::Ping).collect();
    let pinging = match role {
        Role::Server => settings.direction != Direction::Forward,
        _ => settings.direction != Direction::Reverse,
    };
    let (planned, stop_after) = if pinging { plan(&settings, &pings) } else { (None, None) };
    let schedule = schedule(folder, role);
    let stop_after = stop_after.filter(|_| schedule.is_none());
    let schedule = schedule.or(planned);
    let dummies = number(folder, role, "--dummy-pkt").unwrap_or(0);
    let timeout = timeout(folder, role);
    let now = Time::from_nanos(1_000_000_000);
    let machine: Box<dyn Machine> = match role {
        Role::Server => {
            let offers = Offers { udp: true, l2: true };
            let config = ServerConfig { schedule, dummies, offers, ..ServerConfig::plain(timeout) };
            Box::new(Server::new(config))
        }
        _ => {
            let config = ClientConfig {
                server,
                settings,
                schedule,
                dummies,
                timeout,
                connect_timeout: None,
                sampling: Sampling::default(),
                pattern: Pattern::default(),
            };
            Box::new(Client::new(now, config))
        }
    };
    let label = format!("{folder} as {}", role.name());
    let (pending, rows) = (VecDeque::new(), Rows::new());
    let mut replay = Replay { label, folder, role, machine, now, pending, rows, end: None, pings: 0, stop_after };
    replay.obey();
    let mut come: BTreeMap<u8, usize> = BTreeMap::new();
    for datagram in session {
        let message = parsed(datagram);
        if is_own(datagram) {
            replay.expect(datagram);
            continue;
        }
        let before = come.entry(message.kind as u8).or_default();
        *before += 1;
        if !was_dropped(folder, message, *before - 1) {
            replay.deliver(datagram);
        }
    }
    // A process that a signal ended from outside goes on in ours: its record just stops.
    if let Some(status) = exit(folder, role, nth) {
        replay.finish();
        let end = replay.end.unwrap_or_else(|| panic!("{}: no end", replay.label));
        assert_eq!(end.is_success(), status == 0, "{}: {end:?}", replay.label);
        let mut rows = logged(folder, role, nth);
        if folder == "timeout-pong-every-0" && role == Role::Client {
            let count = rows["t0"].len();
            replay.rows.get_mut("t0").unwrap().truncate(count);
        }
        rows.retain(|_, rows| !rows.is_empty());
        assert_eq!(replay.rows, rows, "{}: the log differs", replay.label);
    }
    replay.end
}

#[test]
fn every_golden_session_replays_as_client_and_as_server() {
    let mut replayed = 0;
    for folder in folders() {
        let sessions = sessions(&folder);
        assert_eq!(sessions.len(), if folder == "log-append" { 2 } else { 1 }, "{folder}");
        for (nth, session) in sessions.iter().enumerate() {
            replay(&folder, nth, session, Role::Client);
            if folder != "server-down" {
                replay(&folder, nth, session, Role::Server);
            }
            replayed += 1;
        }
    }
    assert_eq!(replayed, 22, "a golden session is missing");
}

fn end_of(folder: &str, role: Role) -> Option<End> {
    replay(folder, 0, &sessions(folder)[0], role)
}

#[test]
fn a_recorded_refusal_ends_the_second_client() {
    assert_eq!(end_of("second-client", Role::SecondClient), Some(End::Rejected));
}

#[test]
fn recorded_sessions_end_for_the_reason_that_they_ended_for() {
    let [ours, theirs] = [300, 500].map(Duration::from_millis);
    for (folder, role, end) in [
        ("forward-default", Role::Client, Some(End::Complete)),
        ("forward-default", Role::Server, Some(End::Complete)),
        ("duplex", Role::Client, Some(End::Complete)),
        ("duplex", Role::Server, Some(End::Complete)),
        ("sigint", Role::Client, Some(End::Stopped)),
        ("sigint", Role::Server, Some(End::Complete)),
        ("fin-ack-lost", Role::Client, Some(End::FinUnanswered { waited: Duration::from_secs(2) })),
        ("fin-ack-lost", Role::Server, Some(End::Complete)),
        ("timeout", Role::Server, Some(End::TimedOut { after: theirs })),
        ("timeout-pong-every-0", Role::Client, Some(End::TimedOut { after: ours })),
        ("timeout-pong-every-0", Role::Server, Some(End::TimedOut { after: theirs })),
        ("server-down", Role::Client, None),
    ] {
        assert_eq!(end_of(folder, role), end, "{folder} as {}", role.name());
    }
}
