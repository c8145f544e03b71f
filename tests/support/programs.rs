//! The built program, run in two network namespaces that a veth pair joins, or two pairs with a relay between them.

#![allow(dead_code, reason = "each user takes its part")]

#[path = "namespace.rs"]
mod namespace;
#[path = "relay.rs"]
mod relay;

use namespace::{End, Namespace, join};
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each user takes its part")]
pub use relay::{Counted, Relay, Way};

pub const CLIENT_ADDRESS: &str = "10.66.0.1";
pub const SERVER_ADDRESS: &str = "10.66.0.2";
pub const CLIENT_LINK: &str = "ga";
pub const SERVER_LINK: &str = "gb";
/// The built program; examples are not told where it is.
const BUILT: Option<&str> = option_env!("CARGO_BIN_EXE_xdprobe");
/// No run of the program takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(60);

/// Which of the two namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

pub struct Lan {
    // Before the namespaces: its sockets are in the third.
    relay: Option<(Relay, Namespace)>,
    client: Namespace,
    server: Namespace,
    folder: tempfile::TempDir,
}

impl Lan {
    /// Two namespaces; each link has this many receive and transmit queues.
    pub fn new(queues: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let lan = Self { relay: None, client: Namespace::new("client"), server: Namespace::new("server"), folder };
        let end = |interface, address: &str| {
            let address: Ipv4Addr = address.parse().expect("an address");
            End { queues, ..End::new(interface, address) }
        };
        join((&lan.client, end(CLIENT_LINK, CLIENT_ADDRESS)), (&lan.server, end(SERVER_LINK, SERVER_ADDRESS)));
        lan
    }

    /// Two namespaces with a relay between them, whose left is the client's side.
    pub fn with_relay(there: Way, back: Way) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [client, server, between] = ["client", "server", "relay"].map(Namespace::new);
        let nowhere = Ipv4Addr::UNSPECIFIED;
        for (namespace, link, address, end) in
            [(&client, CLIENT_LINK, CLIENT_ADDRESS, "rl"), (&server, SERVER_LINK, SERVER_ADDRESS, "rr")]
        {
            let address = address.parse().expect("an address");
            join((namespace, End::new(link, address)), (&between, End::new(end, nowhere)));
        }
        let relay = Relay::start(&between, ["rl", "rr"], there, back);
        Self { relay: Some((relay, between)), client, server, folder }
    }

    /// What the relay counted: from the client to the server, and back.
    pub fn relayed(&self) -> [Counted; 2] {
        self.relay.as_ref().expect("made with a relay").0.counted()
    }

    pub fn namespace(&self, side: Side) -> &Namespace {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// The path of a file that goes with the value.
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("a temporary path is text").to_owned()
    }

    /// Starts the built program in a namespace.
    pub fn start(&self, side: Side, arguments: &[&str]) -> Program {
        let program = BUILT.expect("only tests and benches are told where it is");
        self.start_other(side, program, arguments)
    }

    /// Starts another program in a namespace.
    pub fn start_other(&self, side: Side, program: &str, arguments: &[&str]) -> Program {
        let mut command = self.namespace(side).command(program);
        command.args(arguments);
        Program::start(command)
    }

    /// Runs the built program in a namespace to its end.
    pub fn run(&self, side: Side, arguments: &[&str]) -> Program {
        let mut program = self.start(side, arguments);
        program.finish();
        program
    }

    /// Runs the built program in a namespace with a terminal of 200 columns for its stderr, to an end that is a success; what it
    /// showed there, and stdout.
    pub fn run_on_terminal(&self, side: Side, arguments: &[&str]) -> (String, String) {
        let size = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let mut command = self.namespace(side).command(BUILT.expect("only tests and benches are told where it is"));
        command.args(arguments).env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::from(pty.slave)).spawn().expect("ip runs");
        // It holds copies of the terminal's other end.
        drop(command);
        // Meanwhile, as a pipe that is full holds the program up.
        let mut printed = child.stdout.take().expect("stdout is piped");
        let printed = std::thread::spawn(move || {
            let mut stdout = String::new();
            printed.read_to_string(&mut stdout).expect("text");
            stdout
        });
        let mut shown = Vec::new();
        let mut master = File::from(pty.master);
        let mut block = [0; 4096];
        // Its end is EIO.
        while let Ok(read) = master.read(&mut block) {
            shown.extend_from_slice(&block[..read]);
        }
        let shown = String::from_utf8(shown).expect("text");
        let stdout = printed.join().expect("a reader does not panic");
        assert!(child.wait().expect("it ends").success(), "{shown}{stdout}");
        (shown, stdout)
    }

    /// No XDP program hangs on either link.
    pub fn assert_unchanged(&self) {
        for (side, link) in [(Side::Client, CLIENT_LINK), (Side::Server, SERVER_LINK)] {
            let shown = self.namespace(side).ip(&["-d", "link", "show", link]);
            assert!(!shown.contains("prog/xdp"), "an XDP program is left on {link}: {shown}");
        }
    }
}

/// A running or finished program with all that it printed. Ended with the value if it still runs.
pub struct Program {
    child: Child,
    status: Option<ExitStatus>,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ip runs: install iproute2");
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(child.stdout.take().expect("stdout is piped"), &stdout),
            collect(child.stderr.take().expect("stderr is piped"), &stderr),
        ];
        Self { child, status: None, stdout, stderr, readers }
    }

    /// Of the program itself: `ip netns exec` becomes it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn all_output(&self) -> String {
        format!("\n--- stdout\n{}--- stderr\n{}", self.stdout(), self.stderr())
    }

    /// Its process id: `ip netns exec` becomes the program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line of stdout or stderr contains this text.
    pub fn wait_for_line(&mut self, text: &str) {
        self.wait_until(text, |program| program.stdout().contains(text) || program.stderr().contains(text));
    }

    /// Waits until something is so, for as long as the program runs.
    pub fn wait_until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !so(self) {
            assert!(start.elapsed() < HANG, "waited too long for {what:?}: {}", self.all_output());
            if self.child.try_wait().expect("a child can be waited for").is_some() {
                self.finish();
                assert!(so(self), "ended before {what:?}: {}", self.all_output());
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let process = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(process, signal).expect("the program still runs");
    }

    /// Waits for the end.
    pub fn finish(&mut self) {
        let start = Instant::now();
        while self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be waited for");
            if self.status.is_none() {
                assert!(start.elapsed() < HANG, "does not end: {}", self.all_output());
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
    }

    /// The exit code; `None` while it runs and where a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn collect(stream: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut text = into.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    })
}
