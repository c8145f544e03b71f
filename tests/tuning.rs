//! What a run sets up for itself for the lowest latency, and what is left of it afterwards: nothing.
//!
//! Needs root, iproute2, setpriv, chrt and taskset. Nothing here asserts a time.

#[path = "support/programs.rs"]
mod programs;

use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, SERVER_LINK, Side};
use serde_json::Value;
use std::fs;
use std::sync::{Mutex, PoisonError};

/// `SCHED_OTHER` and `SCHED_FIFO` of sched(7).
const ORDINARY: u32 = 0;
const FIFO: u32 = 1;

/// Held by whoever has real-time loops run, or looks at the request for wake-up latency: there is one machine for all tests, and of
/// two such loops on a CPU the one with the lower priority does not run.
static MACHINE: Mutex<()> = Mutex::new(());

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn meta(log: &str) -> Value {
    json(&fs::read_to_string(format!("{log}.meta.json")).expect("the log has a meta file"))
}

fn server(lan: &Lan, flags: &[&str]) -> Program {
    let mut server = lan.start(Side::Server, &[&["--server", "-i", SERVER_LINK, "-e", "--cpu", "1"], flags].concat());
    server.wait_for_line("server started");
    server
}

fn client(lan: &Lan, flags: &[&str]) -> Program {
    let fixed = ["--client", "-i", CLIENT_LINK, "-e", "--cpu", "0"];
    lan.start(Side::Client, &[&fixed, flags, &[SERVER_ADDRESS]].concat())
}

/// Policy and priority of each thread of a program, the first one's in front: fields 41 and 40 of `/proc/PID/stat`
/// (proc_pid_stat(5)).
fn threads(program: &Program) -> Vec<(String, u32, u32)> {
    let mut tasks: Vec<(u32, (String, u32, u32))> = fs::read_dir(format!("/proc/{}/task", program.id()))
        .expect("it runs")
        .filter_map(|task| {
            let path = task.ok()?.path();
            let stat = fs::read_to_string(path.join("stat")).ok()?;
            let name = fs::read_to_string(path.join("comm")).ok()?.trim().to_owned();
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            // The state is field 3.
            let number = |field: usize| fields[field - 3].parse().ok();
            Some((path.file_name()?.to_str()?.parse().ok()?, (name, number(41)?, number(40)?)))
        })
        .collect();
    tasks.sort();
    tasks.into_iter().map(|(_, thread)| thread).collect()
}

#[test]
fn only_the_hot_loops_thread_gets_the_real_time_priority_and_every_row_is_written() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let lan = Lan::new(1);
    let logs = [lan.file("client.csv"), lan.file("server.csv")];
    // 40,000 rows a second on either side: with two CPUs nobody has one to himself.
    let own = |log| ["--realtime", "40", "--timer", "busy", "--json", "--log", log];
    let mut server = server(&lan, &own(&logs[1]));
    let mut client =
        client(&lan, &[&own(&logs[0])[..], &["--count", "2", "--delay", "50", "--metrics", "127.0.0.1:9"]].concat());
    client.wait_until("the hot loop runs", |client| {
        threads(client).first().is_some_and(|(_, policy, _)| *policy == FIFO)
    });
    let running = threads(&client);
    assert!(running.len() >= 4, "writer, clocks and metrics have threads: {running:?}");
    assert_eq!((running[0].1, running[0].2), (FIFO, 40));
    for (name, policy, priority) in &running[1..] {
        assert_eq!((*policy, *priority), (ORDINARY, 0), "{name}");
    }
    client.finish();
    server.finish();
    for (program, log) in [(&client, &logs[0]), (&server, &logs[1])] {
        assert_eq!(program.code(), Some(0), "{}", program.all_output());
        let told = json(&program.stdout());
        assert_eq!((&told["rows_lost"], &told["success"]), (&0.into(), &true.into()), "{told}");
        let rows = fs::read_to_string(log).unwrap().lines().count() as u64 - 1;
        assert_eq!(told["rows_written"], rows);
        assert_eq!(meta(log)["tuning"]["realtime"], 40);
    }
    let told = json(&client.stdout());
    assert_eq!(told["rows_written"], told["pings_sent"].as_u64().unwrap() + told["pongs_received"].as_u64().unwrap());
}

#[test]
fn a_server_of_many_clients_has_the_priority_and_rests_too() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let lan = Lan::new(1);
    let folder = lan.file("logs");
    fs::create_dir(&folder).unwrap();
    let own = [
        "--keep",
        "--clients",
        "4",
        "--realtime",
        "40",
        "--timer",
        "busy",
        "--cpu",
        "0",
        "--json",
        "--log-dir",
        &folder,
    ];
    let mut server = server(&lan, &own);
    let mut client = client(&lan, &["--count", "2", "--delay", "100", "--timer", "busy", "--cpu", "1"]);
    server.wait_until("the hot loop runs", |server| {
        threads(server).first().is_some_and(|(_, policy, _)| *policy == FIFO)
    });
    let running = threads(&server);
    assert_eq!((running[0].1, running[0].2), (FIFO, 40));
    assert!(
        running.len() >= 2 && running[1..].iter().all(|thread| (thread.1, thread.2) == (ORDINARY, 0)),
        "{running:?}"
    );
    client.finish();
    assert_eq!(client.code(), Some(0), "{}", client.all_output());
    server.wait_until("statistics", |server| server.stdout().lines().count() == 1);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.finish();
    let told = json(&server.stdout());
    assert_eq!((&told["rows_lost"], server.code()), (&0.into(), Some(0)), "{}", server.all_output());
    let rows = told["pings_received"].as_u64().unwrap() + told["pongs_sent"].as_u64().unwrap();
    assert_eq!(told["rows_written"], rows);
    // Pinned to one CPU, of a process that may run on others.
    assert!(!server.stderr().contains("on the one CPU"), "{}", server.stderr());
    assert!(!server.stderr().contains("no longer waited"), "{}", server.stderr());
}

#[test]
fn rows_come_before_pings_where_real_time_loops_have_every_cpu() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let lan = Lan::new(1);
    let logs = [lan.file("client.csv"), lan.file("server.csv")];
    let own = |log| ["--realtime", "1", "--timer", "busy", "--json", "--log", log];
    let mut server = server(&lan, &own(&logs[1]));
    // As fast as it goes: more than the ring holds of a second's rows.
    let mut client = client(
        &lan,
        &[&own(&logs[0])[..], &["--count", "2", "--delay", "5", "--pong-every", "0", "--timeout", "0"]].concat(),
    );
    client.finish();
    server.finish();
    for program in [&client, &server] {
        let told = json(&program.stdout());
        assert_eq!((&told["rows_lost"], program.code()), (&0.into(), Some(0)), "{}", program.all_output());
    }
}

#[test]
fn what_is_lacking_for_a_real_time_priority_is_named_before_anything_is_changed() {
    let lan = Lan::new(1);
    let program = env!("CARGO_BIN_EXE_xdprobe");
    let refused = |wrapper: &str, options: &[&str], parts: &[&str]| {
        let fixed = [program, "--client", "-i", CLIENT_LINK, "-e", "--realtime", "50", SERVER_ADDRESS];
        let mut run = lan.start_other(Side::Client, wrapper, &[options, &fixed].concat());
        run.finish();
        assert_eq!(run.code(), Some(1), "{}", run.all_output());
        for part in parts {
            assert!(run.stderr().contains(part), "{part}: {}", run.stderr());
        }
    };
    refused("setpriv", &["--bounding-set=-sys_nice"], &["--realtime 50: ", "EPERM", "CAP_SYS_NICE", "ulimit -r"]);
    refused("chrt", &["-f", "1"], &["--realtime 50: ", "chrt"]);
    lan.assert_unchanged();
}

#[test]
fn a_busy_loop_on_the_only_cpu_is_told_of() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let lan = Lan::new(1);
    let program = env!("CARGO_BIN_EXE_xdprobe");
    let run = |timer: &str| {
        let fixed = ["-c", "0", program, "--client", "-i", CLIENT_LINK, "-e", "--realtime", "50", "--timer", timer];
        let more = ["--connect-timeout", "100000", SERVER_ADDRESS];
        let mut run = lan.start_other(Side::Client, "taskset", &[&fixed[..], &more].concat());
        run.finish();
        run.stderr()
    };
    let told = "--realtime 50 with a busy loop on the one CPU";
    assert!(run("busy").contains(told), "{}", run("busy"));
    assert!(!run("sleep").contains(told));
}

/// The request for wake-up latency that is in force, in µs: the least of all.
fn wake_up_limit() -> i32 {
    i32::from_ne_bytes(fs::read("/dev/cpu_dma_latency").expect("this machine has the device")[..4].try_into().unwrap())
}

/// KiB of a program's memory that are locked.
fn locked_kib(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn memory_is_locked_and_cpus_are_kept_awake_while_it_runs_and_no_longer() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let lan = Lan::new(1);
    let log = lan.file("client.csv");
    let before = wake_up_limit();
    let mut server = server(&lan, &[]);
    let flags =
        ["--lock-memory", "--cpu-latency", "3", "--count", "0", "--delay", "1000", "--log", &log, "--timer", "sleep"];
    let mut client = client(&lan, &flags);
    client.wait_until("the hot loop runs", |client| locked_kib(client) > 0);
    assert_eq!(wake_up_limit(), before.min(3));
    client.wait_until("a session stands", |_| fs::exists(format!("{log}.meta.json")).unwrap());
    // However it ends.
    client.signal(nix::sys::signal::Signal::SIGKILL);
    client.finish();
    assert_eq!(wake_up_limit(), before);
    let tuning = &meta(&log)["tuning"];
    assert_eq!((&tuning["lock_memory"], &tuning["cpu_latency_us"]), (&true.into(), &3.into()), "{tuning}");
    assert_eq!((&tuning["realtime"], &tuning["cpu"]), (&Value::Null, &0.into()), "{tuning}");
    server.signal(nix::sys::signal::Signal::SIGINT);
    server.finish();
}

#[test]
fn memory_that_may_not_be_locked_is_named_before_anything_is_changed() {
    let lan = Lan::new(1);
    let program = env!("CARGO_BIN_EXE_xdprobe");
    let wrapper = ["--memlock=4194304", "setpriv", "--bounding-set=-ipc_lock", program, "--client", "-i", CLIENT_LINK];
    let more = ["-e", "--path", "kernel", "--lock-memory", SERVER_ADDRESS];
    let mut run = lan.start_other(Side::Client, "prlimit", &[&wrapper[..], &more].concat());
    run.finish();
    assert_eq!(run.code(), Some(1), "{}", run.all_output());
    for part in ["--lock-memory: ", "ENOMEM", "4096 KiB (RLIMIT_MEMLOCK)", "CAP_IPC_LOCK", "ulimit -l"] {
        assert!(run.stderr().contains(part), "{part}: {}", run.stderr());
    }
}

const OFF: [u64; 2] = [0, 0];
const DEFERRED: [u64; 2] = [2, 200_000];

/// `napi_defer_hard_irqs` and `gro_flush_timeout` of a link.
fn deferral(lan: &Lan, side: Side, link: &str) -> [u64; 2] {
    ["napi_defer_hard_irqs", "gro_flush_timeout"].map(|file| {
        // As `ip netns exec` mounts the namespace's own /sys.
        let output = lan.namespace(side).command("cat").arg(format!("/sys/class/net/{link}/{file}")).output();
        String::from_utf8(output.expect("ip runs").stdout).unwrap().trim().parse().expect("a number")
    })
}

/// A server on the kernel's path with deferred interrupts: a veth's queues have nothing to poll over AF_XDP.
fn deferring(lan: &Lan, flags: &[&str]) -> Program {
    server(lan, &[&["--path", "kernel", "--busypoll", "50", "--tune"], flags].concat())
}

#[test]
fn interrupts_are_deferred_while_it_runs_and_as_they_were_on_every_way_out() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // Where the tests run under nohup, SIGHUP is ignored, which xdprobe would inherit and respect.
    // SAFETY: there is no handler of this program's for it.
    unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }.expect("a disposition can be set");
    let lan = Lan::new(1);
    let now = || deferral(&lan, Side::Server, SERVER_LINK);
    let log = lan.file("server.csv");
    let mut server = deferring(&lan, &["--log", &log]);
    assert_eq!(now(), DEFERRED);
    let mut client = client(&lan, &["--path", "kernel", "--count", "1", "--delay", "10000"]);
    client.finish();
    server.finish();
    assert_eq!((client.code(), server.code(), now()), (Some(0), Some(0), OFF), "{}", server.all_output());
    let expected = serde_json::json!({ "napi_defer_hard_irqs": 2, "gro_flush_timeout_ns": 200_000 });
    assert_eq!((&meta(&log)["tuning"]["napi"], &meta(&log)["tuning"]["busypoll_us"]), (&expected, &50.into()));

    for end in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut server = deferring(&lan, &[]);
        assert_eq!(now(), DEFERRED);
        server.signal(end);
        server.finish();
        assert_eq!(now(), OFF, "{end}");
    }
    // An error behind the change: the log's folder is there, and the log cannot be written.
    let fixed =
        ["--server", "-i", SERVER_LINK, "-e", "--path", "kernel", "--busypoll", "50", "--tune", "--log", "/dev/full"];
    let failed = lan.run(Side::Server, &fixed);
    assert_eq!((failed.code(), now()), (Some(1), OFF), "{}", failed.all_output());
}

#[test]
fn the_next_run_restores_what_a_killed_one_left_whatever_it_is_for() {
    let lan = Lan::new(1);
    let now = || deferral(&lan, Side::Server, SERVER_LINK);
    let mut killed = deferring(&lan, &[]);
    killed.signal(nix::sys::signal::Signal::SIGKILL);
    killed.finish();
    assert_eq!(now(), DEFERRED);
    let mut next = server(&lan, &["--path", "kernel"]);
    assert_eq!(now(), OFF);
    let told = format!("an earlier run (process id {}) was killed and left {SERVER_LINK} at", killed.id());
    assert!(next.stderr().contains(&told), "{}", next.stderr());
    next.signal(nix::sys::signal::Signal::SIGINT);
    next.finish();
    assert_eq!(now(), OFF);
}

#[test]
fn of_two_runs_on_one_interface_the_first_restores_what_was_there() {
    let lan = Lan::new(1);
    let now = || deferral(&lan, Side::Server, SERVER_LINK);
    let mut first = deferring(&lan, &[]);
    let mut second = deferring(&lan, &["--port", "7777"]);
    let told = format!("xdprobe with process id {} has set {SERVER_LINK}", first.id());
    assert!(second.stderr().contains(&told), "{}", second.stderr());
    second.signal(nix::sys::signal::Signal::SIGINT);
    second.finish();
    assert_eq!(now(), DEFERRED);
    first.signal(nix::sys::signal::Signal::SIGINT);
    first.finish();
    assert_eq!(now(), OFF);
}

#[test]
fn interrupts_are_not_deferred_where_nobody_polls() {
    let lan = Lan::new(1);
    let run = lan.run(Side::Server, &["--server", "-i", SERVER_LINK, "-e", "--busypoll", "50", "--tune"]);
    assert_eq!((run.code(), deferral(&lan, Side::Server, SERVER_LINK)), (Some(1), OFF));
    assert!(
        run.stderr().contains("--tune: none of the receive queues of gb that are used is linked"),
        "{}",
        run.stderr()
    );
    lan.assert_unchanged();
}

#[test]
fn a_comparison_has_it_all_too() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let lan = Lan::new(1);
    let before = wake_up_limit();
    let mut server = server(&lan, &["--keep"]);
    let flags =
        ["compare", "-i", CLIENT_LINK, "-e", "--rounds", "3", "--realtime", "9", "--cpu-latency", "4", "--cpu", "0"];
    let mut compare = lan.start(Side::Client, &[&flags[..], &["--lock-memory", "--json", SERVER_ADDRESS]].concat());
    compare
        .wait_until("a round runs", |compare| threads(compare).first().is_some_and(|(_, policy, _)| *policy == FIFO));
    assert!(locked_kib(&compare) > 0);
    assert_eq!(wake_up_limit(), before.min(4));
    assert!(threads(&compare)[1..].iter().all(|(_, policy, _)| *policy == ORDINARY), "{:?}", threads(&compare));
    compare.finish();
    assert_eq!((compare.code(), wake_up_limit()), (Some(0), before), "{}", compare.all_output());
    server.signal(nix::sys::signal::Signal::SIGINT);
    server.finish();
}
