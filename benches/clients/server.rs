//! The program under test: a server of so many clients, and what it says of each session at its end.

use crate::namespace::{End, Namespace};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Beyond what anything here should take.
const HANG: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// A running server.
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
    sessions: usize,
}

impl Server {
    /// Starts it with these flags besides, and waits until it listens. `logs`: with a log for each session.
    pub fn start(
        namespace: &Namespace,
        end: End,
        cpu: usize,
        clients: u16,
        logs: bool,
        flags: &[&str],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = namespace.command(env!("CARGO_BIN_EXE_xdprobe"));
        command.args(["--server", "--keep", "--json", "--emulation", "--path", "xdp", "--interface", end.interface]);
        // With one it would be the server of one session after the other.
        command.args(["--cpu", &cpu.to_string(), "--clients", &clients.max(2).to_string()]).args(flags);
        if logs {
            let logs = folder.path().join("logs");
            std::fs::create_dir(&logs)?;
            command.arg("--log-dir").arg(logs);
        }
        let file = |name| File::create(folder.path().join(name));
        let child = command.stdin(Stdio::null()).stdout(file("out")?).stderr(file("err")?).spawn()?;
        let mut server = Self { child, folder, sessions: usize::from(clients) };
        server.wait("to listen", |server| Ok(server.said("err")?.contains("nanoprobe server started")))?;
        Ok(server)
    }

    /// Waits until it has told of each session that it stands: then all logs but the last are made too. A thousand take the writing thread most of
    /// a second, which is no part of what a ping costs.
    pub fn wait_for_sessions(&mut self) -> Result<()> {
        self.wait("to tell of its clients", |server| {
            let said = server.said("err")?;
            Ok(said.lines().filter(|line| line.starts_with("Connected to ")).count() >= server.sessions)
        })
    }

    /// Ends it, once all sessions are over; their statistics, of each client's port.
    pub fn finish(mut self) -> Result<Vec<(u16, Value)>> {
        self.wait("to tell statistics", |server| Ok(server.said("out")?.lines().count() >= server.sessions))?;
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        self.wait("to end", |server| Ok(server.child.try_wait()?.is_some()))?;
        let status = self.child.wait()?;
        let sessions = self.said("out")?;
        let sessions = sessions.lines().map(|line| {
            let session: Value = serde_json::from_str(line)?;
            let port = session["peer"].as_str().and_then(|peer| peer.rsplit_once(':')).context("a peer")?.1.parse()?;
            Ok((port, session))
        });
        let sessions: Vec<(u16, Value)> = sessions.collect::<Result<_>>()?;
        // Where a log has lost rows it says so with its exit code.
        let lost = sessions.iter().any(|(_, session)| session["rows_lost"].as_u64().is_some_and(|rows| rows > 0));
        ensure!(status.code() == Some(i32::from(lost)), "the server ended with {status}: {}", self.complaints()?);
        Ok(sessions)
    }

    /// What it said beside who came and went.
    fn complaints(&self) -> Result<String> {
        let said = self.said("err")?;
        let lines = said.lines().filter(|line| !line.starts_with("Connected to ") && !line.starts_with("Client "));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    fn said(&self, name: &str) -> Result<String> {
        let path: PathBuf = self.folder.path().join(name);
        Ok(std::fs::read_to_string(path)?)
    }

    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let limit = Instant::now() + HANG;
        loop {
            // Asked first: what a program did before its end is seen behind it.
            let runs = self.child.try_wait()?.is_none();
            if done(self)? {
                return Ok(());
            }
            ensure!(runs && Instant::now() < limit, "waited for the server {what}: {}", self.complaints()?);
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A count in a session's statistics.
pub fn count(session: &Value, name: &str) -> Result<u64> {
    session[name].as_u64().with_context(|| format!("no {name} in {session}"))
}
