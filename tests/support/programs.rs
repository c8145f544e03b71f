//! Two network namespaces joined by a veth pair, and the built program run in them.
//!
//! Everything is removed with the value, also when a test panics.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const CLIENT_ADDRESS: &str = "10.66.0.1";
pub const SERVER_ADDRESS: &str = "10.66.0.2";
pub const CLIENT_LINK: &str = "ga";
pub const SERVER_LINK: &str = "gb";
/// No run of the program takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(60);

/// Which of the two namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

pub struct Lan {
    client: String,
    server: String,
    folder: tempfile::TempDir,
}

impl Lan {
    /// Two namespaces; each link has this many receive and transmit queues.
    pub fn new(queues: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("probe{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let lan = Self { client: format!("{id}c"), server: format!("{id}s"), folder };
        ip(&["netns", "add", &lan.client]);
        ip(&["netns", "add", &lan.server]);
        let queues = queues.to_string();
        let of_queues = ["numrxqueues", &queues, "numtxqueues", &queues];
        let ours = ["-n", &lan.client, "link", "add", CLIENT_LINK];
        let theirs = ["type", "veth", "peer", "name", SERVER_LINK, "netns", &lan.server];
        ip(&[&ours[..], &of_queues, &theirs, &of_queues].concat());
        for (side, link, address) in
            [(Side::Client, CLIENT_LINK, CLIENT_ADDRESS), (Side::Server, SERVER_LINK, SERVER_ADDRESS)]
        {
            lan.ip(side, &["addr", "add", &format!("{address}/24"), "dev", link]);
            lan.ip(side, &["link", "set", link, "up"]);
            lan.ip(side, &["link", "set", "lo", "up"]);
        }
        lan
    }

    pub fn namespace(&self, side: Side) -> &str {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// Runs `ip` in a namespace; what it printed.
    pub fn ip(&self, side: Side, arguments: &[&str]) -> String {
        ip(&[&["-n", self.namespace(side)], arguments].concat())
    }

    /// The path of a file that goes with the value.
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("a temporary path is text").to_owned()
    }

    /// Starts the built program in a namespace.
    pub fn start(&self, side: Side, arguments: &[&str]) -> Program {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.namespace(side), env!("CARGO_BIN_EXE_xdprobe")]).args(arguments);
        Program::start(command)
    }

    /// Runs something of the test's own in a namespace, on a thread of its own; sockets opened there stay there.
    pub fn within<T: Send>(&self, side: Side, run: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.namespace(side))).expect("it was made");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may enter it");
                run()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts another program in a namespace.
    pub fn start_other(&self, side: Side, words: &[&str]) -> Program {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.namespace(side)]).args(words);
        Program::start(command)
    }

    /// Runs the built program in a namespace to its end.
    pub fn run(&self, side: Side, arguments: &[&str]) -> Program {
        let mut program = self.start(side, arguments);
        program.finish();
        program
    }

    /// No XDP program hangs on either link.
    pub fn assert_unchanged(&self) {
        for (side, link) in [(Side::Client, CLIENT_LINK), (Side::Server, SERVER_LINK)] {
            let shown = self.ip(side, &["-d", "link", "show", link]);
            assert!(!shown.contains("prog/xdp"), "an XDP program is left on {link}: {shown}");
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            let deleted = Command::new("ip").args(["netns", "del", namespace]).status();
            if !deleted.is_ok_and(|status| status.success()) {
                eprintln!("could not remove the namespace: ip netns del {namespace}");
            }
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

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn all_output(&self) -> String {
        format!("\n--- stdout\n{}--- stderr\n{}", self.stdout(), self.stderr())
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

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("ip runs: install iproute2");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}(tests of namespaces need root)", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
