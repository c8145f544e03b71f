//! Two network namespaces that a veth pair joins, and the programs that run in them.

use crate::contestant::{Contestant, Who};
use crate::log::{self, Log};
use crate::namespace::{End, Namespace, join};
use crate::output;
use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde_json::Value;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The two ends of the pair.
pub const CLIENT: End = End::new("xc", Ipv4Addr::new(10, 99, 0, 1));
pub const SERVER: End = End::new("xs", Ipv4Addr::new(10, 99, 0, 2));

/// How long a server has to begin to listen: not all of them say when they do.
const LISTENS: Duration = Duration::from_millis(300);
/// Beyond what a session should take.
const HANG: Duration = Duration::from_secs(20);

/// A session to be run: nanoprobe's flags.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub delay_us: u32,
    pub seconds: u32,
    pub timer: &'static str,
    pub pong_every: u32,
    /// On the CPUs of [`Lan::cpus`], whoever can be told; else where the kernel puts it.
    pub pinned: bool,
}

/// What one session came to.
pub struct Session {
    pub client: Log,
    pub server: Log,
    /// CPU time of both programs.
    pub cpu: Duration,
    /// The most memory that either program had, in KiB (`VmHWM`).
    pub peak_kib: u64,
    /// Both programs ended by themselves and said that all went well: of xdprobe also that no row of the log was lost.
    pub is_whole: bool,
    /// The statistics of client and server; null of a program that leaves no meta file.
    pub summaries: [Value; 2],
}

/// The namespaces, and a folder for logs, removed with the value.
pub struct Lan {
    pub client: Namespace,
    pub server: Namespace,
    /// The CPUs of the client's busy thread and of the server's.
    pub cpus: [usize; 2],
    folder: tempfile::TempDir,
    /// Set by SIGINT and SIGTERM, so that the namespaces are removed on that way out too.
    interrupted: Arc<AtomicBool>,
}

impl Lan {
    /// A pair with so many queues at each end.
    pub fn new(queues: u32, interrupted: &Arc<AtomicBool>) -> Result<Self> {
        let (client, server) = (Namespace::new("client"), Namespace::new("server"));
        join((&client, End { queues, ..CLIENT }), (&server, End { queues, ..SERVER }));
        let interrupted = Arc::clone(interrupted);
        Ok(Self { client, server, cpus: output::cpus()?, folder: tempfile::tempdir()?, interrupted })
    }

    /// One forward session, and what both logs say of it.
    pub fn session(&self, contestant: &Contestant, job: Job) -> Result<Session> {
        let logs = ["client.csv", "server.csv"].map(|name| self.folder.path().join(name));
        let metas = logs.each_ref().map(|log| log.with_extension("csv.meta.json"));
        for file in logs.iter().chain(&metas) {
            let _ = std::fs::remove_file(file);
        }
        let said = ["client.err", "server.err"].map(|name| self.folder.path().join(name));
        let [client_log, server_log] = logs.each_ref().map(|log| log.display().to_string());
        let [client_cpu, server_cpu] =
            self.cpus.map(|cpu| if job.pinned { contestant.on_cpu(cpu) } else { Vec::new() });
        let mut command = contestant.command(&self.server, "--server");
        command.args(["--interface", SERVER.interface, "--log", &server_log]).args(server_cpu);
        let mut server = start(&mut command, File::create(&said[1])?)?;
        std::thread::sleep(LISTENS);
        let mut command = contestant.command(&self.client, "--client");
        command.args(["--interface", CLIENT.interface, "--log", &client_log, "--timer", job.timer]);
        command.args(["--delay", &job.delay_us.to_string(), "--count", &job.seconds.to_string()]);
        command.args(["--pong-every", &job.pong_every.to_string()]).args(client_cpu);
        let mut client = start(command.arg(SERVER.address.to_string()), File::create(&said[0])?)?;

        let limit = Instant::now() + Duration::from_secs(job.seconds.into()) + HANG;
        let before = cpu_time(UsageWho::RUSAGE_CHILDREN)?;
        let (client_ended, client_peak) = self.wait(&mut client, limit)?;
        // An overrun server may never see the FIN: what is missing in the log is loss.
        let (server_ended, server_peak) = self.wait(&mut server, limit.min(Instant::now() + Duration::from_secs(5)))?;
        let cpu = cpu_time(UsageWho::RUSAGE_CHILDREN)?.saturating_sub(before);
        let read = |side: usize| {
            log::read(&logs[side]).with_context(|| std::fs::read_to_string(&said[side]).unwrap_or_default())
        };
        Ok(Session {
            client: read(0)?,
            server: read(1)?,
            cpu,
            peak_kib: client_peak.max(server_peak),
            is_whole: client_ended && server_ended,
            summaries: metas.map(|meta| summary(&meta)),
        })
    }

    /// Runs another program's server, then its client to its end; what the client printed.
    pub fn talk(&self, server: &mut Command, client: &mut Command) -> Result<String> {
        let mut server = start(server, Stdio::null())?;
        std::thread::sleep(LISTENS);
        client.stdin(Stdio::null()).stderr(Stdio::null());
        let said = client.output().context("cannot start a client");
        end(&mut server);
        self.check()?;
        let said = said?;
        ensure!(said.status.success(), "{client:?}: {}: {}", said.status, String::from_utf8_lossy(&said.stdout));
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// Waits for the end of a program, and ends it where it does not come; whether it was well, and the most memory it had.
    fn wait(&self, child: &mut Child, limit: Instant) -> Result<(bool, u64)> {
        let mut peak = 0;
        loop {
            peak = peak_kib(child.id()).unwrap_or(peak);
            if let Some(status) = child.try_wait()? {
                return Ok((status.success(), peak));
            }
            if Instant::now() > limit || self.check().is_err() {
                end(child);
                self.check()?;
                return Ok((false, peak));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// # Errors
    /// The user wants an end.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    /// A file in the folder of the logs.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What a meta file has of a session's statistics.
fn summary(meta: &Path) -> Value {
    let meta = std::fs::read_to_string(meta).unwrap_or_default();
    serde_json::from_str(&meta).map_or(Value::Null, |mut meta: Value| meta["summary"].take())
}

/// Starts a program; what it says on stderr goes there, and what it says on stdout nobody reads.
pub fn start(command: &mut Command, said: impl Into<Stdio>) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
    command.spawn().with_context(|| format!("cannot start {command:?}"))
}

/// Ends a program that this one started.
pub fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// CPU time: of this process, or of all children that were waited for.
pub fn cpu_time(whose: UsageWho) -> Result<Duration> {
    let usage = getrusage(whose)?;
    let duration = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

/// `VmHWM` of a process (proc_pid_status(5)); `None` where it is over.
fn peak_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

impl Contestant {
    /// Flags that pin the busy thread; nanoprobe has none, and runs where the kernel puts it.
    fn on_cpu(&self, cpu: usize) -> Vec<String> {
        match self.who {
            who if who.is_unpinned() => Vec::new(),
            Who::Xdp | Who::Kernel | Who::Tuned(..) => vec!["--cpu".to_owned(), cpu.to_string()],
            _ => Vec::new(),
        }
    }
}
