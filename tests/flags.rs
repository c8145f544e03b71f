//! The flags: none is missing, none undocumented, each does what its help says.

use clap::{Arg, ArgAction};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use xdprobe::cli::{
    self, CapsPlan, Many, Parsed, PathKind, Plan, PtpWish, Role, SweepPlan, Target, Timestamps, Tuning, TxWay, XdpMode,
    ZeroCopy, caps_command, command, compare_command, parse, report_command, sweep_command,
};
use xdprobe::session::{Direction, Pattern, Rate, Settings, TimerKind};

/// nanoprobe's flags: long, short, whether it takes a value.
const NANOPROBE: [(&str, Option<char>, bool); 20] = [
    ("client", None, false),
    ("server", None, false),
    ("interface", Some('i'), true),
    ("count", Some('n'), true),
    ("delay", Some('d'), true),
    ("port", Some('p'), true),
    ("log", Some('l'), true),
    ("emulation", Some('e'), false),
    ("timeout", Some('t'), true),
    ("busypoll", Some('b'), true),
    ("dummy-pkt", Some('x'), true),
    ("ping-size", Some('s'), true),
    ("pong-size", Some('o'), true),
    ("timer", Some('T'), true),
    ("reverse", Some('R'), false),
    ("duplex", Some('D'), false),
    ("probe-schedule", Some('S'), true),
    ("pong-every", Some('y'), true),
    ("help", Some('h'), false),
    // Not a flag of nanoprobe's, but where its version would be.
    ("version", None, false),
];

/// Ours: long only.
const NEW: [(&str, bool); 26] = [
    ("max-rate", true),
    ("clients", true),
    ("log-dir", true),
    ("timestamps", true),
    ("tx", true),
    ("stamp-timeout", true),
    ("ptp", true),
    ("in-band", false),
    ("stamp-every", true),
    ("log-stages", true),
    ("path", true),
    ("xdp-mode", true),
    ("zero-copy", true),
    ("queue", true),
    ("cpu", true),
    ("realtime", true),
    ("lock-memory", false),
    ("cpu-latency", true),
    ("tune", false),
    ("keep", false),
    ("connect-timeout", true),
    ("json", false),
    ("interval", true),
    ("metrics", true),
    ("quiet", false),
    ("generate", true),
];

/// Flags with numbers: the first and the last that are accepted, and the unit as the error says it.
const NUMBERS: [(&str, u32, u32, &str); 15] = [
    ("stamp-timeout", 1, 60_000_000, "µs"),
    ("stamp-every", 1, 1_000_000, "pings"),
    ("port", 1, 65535, "UDP port"),
    ("count", 0, u32::MAX, "seconds"),
    ("delay", 0, u32::MAX, "µs"),
    ("timeout", 0, u32::MAX, "µs"),
    ("busypoll", 0, i32::MAX as u32, "µs"),
    ("dummy-pkt", 0, 65535, "packets"),
    ("ping-size", 44, 2092, "bytes with the IP header"),
    ("pong-size", 44, 2092, "bytes with the IP header"),
    ("pong-every", 0, 1_000_000, "pings"),
    ("connect-timeout", 0, u32::MAX, "µs"),
    ("cpu", 0, 1023, "CPU number"),
    ("realtime", 1, 99, "priority"),
    ("cpu-latency", 0, i32::MAX as u32, "µs"),
];

fn words(line: &str) -> impl Iterator<Item = OsString> {
    ["xdprobe"].into_iter().chain(line.split_whitespace()).map(OsString::from)
}

fn plan(line: &str) -> Plan {
    match parse(words(line)) {
        Ok(Parsed::Run(plan)) => plan,
        answer => panic!("{line}: {answer:?}"),
    }
}

/// A client's plan with `flags`, in forward.
fn client(flags: &str) -> Plan {
    plan(&format!("--client -i eth0 {flags} 10.0.0.2"))
}

fn settings(plan: Plan) -> Settings {
    match plan.role {
        Role::Client { settings, .. } => settings,
        Role::Server { .. } => panic!("a server has no settings"),
    }
}

fn refused(line: &str) -> String {
    match parse(words(line)) {
        Err(error) => error.to_string(),
        Ok(answer) => panic!("{line} is accepted: {answer:?}"),
    }
}

fn printed(line: &str) -> String {
    match parse(words(line)) {
        Ok(Parsed::Print(text)) => text,
        answer => panic!("{line}: {answer:?}"),
    }
}

/// An argument of the built command.
fn argument(long: &str) -> Arg {
    let mut command = command();
    command.build();
    let found = command.get_arguments().find(|argument| argument.get_long() == Some(long));
    found.unwrap_or_else(|| panic!("no --{long}")).clone()
}

fn takes_value(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

#[test]
fn clap_finds_nothing_wrong_with_the_flags() {
    command().debug_assert();
}

#[test]
fn the_flags_are_nanoprobes_and_ours_and_no_others() {
    for (long, short, value) in NANOPROBE {
        let found = argument(long);
        assert_eq!((found.get_short(), takes_value(&found)), (short, value), "--{long}");
    }
    for (long, value) in NEW {
        let found = argument(long);
        assert_eq!((found.get_short(), takes_value(&found)), (None, value), "--{long}");
    }
    let command = command();
    assert_eq!(command.get_opts().count() + command.get_positionals().count(), command.get_arguments().count());
    assert_eq!(command.get_opts().count(), NANOPROBE.len() + NEW.len());
    assert_eq!(command.get_positionals().count(), 1);
}

#[test]
fn every_flag_is_in_the_help_under_a_heading_and_both_helps_are_the_same() {
    let help = printed("--help");
    assert_eq!(printed("-h"), help);
    for argument in command().get_opts() {
        let long = argument.get_long().expect("every flag has a long name");
        assert!(help.contains(&format!("--{long}")), "--{long}");
        assert!(argument.get_help_heading().is_some() && argument.get_help().is_some(), "--{long}");
    }
    let widest = help.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?} columns");
}

#[test]
fn every_example_of_the_help_is_a_right_command_line() {
    let help = printed("--help");
    let examples = help.lines().filter_map(|line| line.strip_prefix("    xdprobe "));
    let right = examples.map(|example| match parse(words(example)) {
        Ok(Parsed::Run(plan)) => assert_eq!(plan.warnings, [""; 0], "{example}"),
        Ok(Parsed::Caps(_)) => {}
        answer => panic!("{example}: {answer:?}"),
    });
    assert_eq!(right.count(), 6);
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(printed("--version"), format!("xdprobe {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_man_page_and_the_completions_have_every_flag_and_need_no_other() {
    for what in ["man", "bash", "zsh", "fish"] {
        let text = printed(&format!("--generate {what}"));
        assert!(text.ends_with('\n'), "{what}");
        let plain = text.replace('\\', "");
        for long in command().get_opts().filter_map(Arg::get_long) {
            let shown = if what == "fish" { format!("-l {long} ") } else { format!("--{long}") };
            assert!(plain.contains(&shown), "--{long} for {what}");
        }
    }
    assert_eq!(refused("--generate elvish"), "--generate elvish: must be man, bash, zsh or fish");
}

#[test]
fn the_man_page_is_ascii_and_has_the_sections_of_one() {
    let page = printed("--generate man");
    assert!(page.is_ascii());
    let title = format!(".TH XDPROBE 1 \"\" \"xdprobe {}\" \"User Commands\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(page.lines().filter(|line| line.starts_with(".TH ")).collect::<Vec<_>>(), [title]);
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
    let expected =
        ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "\"EXIT STATUS\"", "EXAMPLES", "\"SEE ALSO\""];
    assert_eq!(sections, expected);
    assert_eq!(page.lines().filter(|line| line.starts_with(".SS ")).count(), 5);
}

#[test]
fn numbers_are_accepted_up_to_the_range_that_error_and_help_name() {
    for (long, min, max, unit) in NUMBERS {
        let range = format!("in [{min}, {max}] ({unit})");
        let line = |value: &str| format!("--client -i eth0 --{long} {value} 10.0.0.2");
        for good in [min.to_string(), max.to_string(), format!("+{max}"), format!("00{min}")] {
            plan(&line(&good));
        }
        for out in [i64::from(min) - 1, i64::from(max) + 1, i64::MIN, i64::MAX] {
            assert_eq!(refused(&line(&out.to_string())), format!("--{long} {out}: must be {range}"));
        }
        let huge = "9".repeat(40);
        assert_eq!(refused(&line(&huge)), format!("--{long} {huge}: must be {range}"));
        for text in ["10abc", "abc", "1.5", "0x10", "1e3", "+", "5s"] {
            assert_eq!(refused(&line(text)), format!("--{long} {text}: must be a whole number {range}"));
        }
        let empty = format!("--client -i eth0 --{long}= 10.0.0.2");
        assert_eq!(refused(&empty), format!("--{long} \"\": must be a whole number {range}"));
        let help = argument(long).get_help().expect("a help").to_string();
        assert!(help.contains(&format!("{min} to {max}")), "--{long}: {help}");
    }
}

#[test]
fn a_default_in_the_help_is_the_plans() {
    let plan = client("");
    let Role::Client { settings, connect_timeout, .. } = &plan.role else { panic!("{plan:?}") };
    let micros = |limit: Option<Duration>| limit.map_or(0, |limit| limit.as_micros());
    let shown = [
        ("port", plan.port.to_string()),
        // Where it is not typed there is no `Many`: it is 1.
        ("clients", "1".into()),
        ("count", settings.count_s.to_string()),
        ("delay", settings.delay_us.to_string()),
        ("ping-size", (settings.ping_padding + 44).to_string()),
        ("pong-size", (settings.pong_padding + 44).to_string()),
        ("pong-every", settings.pong_every.to_string()),
        ("connect-timeout", micros(*connect_timeout).to_string()),
        ("timeout", micros(plan.timeout).to_string()),
        ("stamp-timeout", plan.stamp_timeout.as_micros().to_string()),
        ("dummy-pkt", plan.dummies.to_string()),
        ("busypoll", plan.busypoll_us.unwrap_or(0).to_string()),
        ("timestamps", format!("{:?}", plan.timestamps).to_lowercase()),
        ("path", format!("{:?}", plan.path).to_lowercase()),
        ("xdp-mode", format!("{:?}", plan.xdp_mode).to_lowercase()),
        ("zero-copy", format!("{:?}", plan.zero_copy).to_lowercase()),
    ];
    let help = printed("--help").split_whitespace().collect::<Vec<_>>().join(" ");
    for (long, default) in &shown {
        let told = argument(long).get_default_values().iter().map(|value| value.to_owned()).collect::<Vec<_>>();
        assert_eq!(told, [default.as_str()], "--{long}");
        let (_, behind) = help.split_once(&format!("--{long} <")).expect("the flag is in the help");
        let default_told = behind.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
        assert_eq!(default_told.map(|(default, _)| default), Some(default.as_str()), "--{long}");
    }
    let told = command()
        .get_opts()
        .filter(|argument| takes_value(argument) && !argument.get_default_values().is_empty())
        .count();
    assert_eq!(told, shown.len());
}

#[test]
fn without_flags_the_plan_is_nanoprobes() {
    let expected = Plan {
        role: Role::Client {
            host: "10.0.0.2".into(),
            settings: Settings::default(),
            connect_timeout: None,
            ptp: Some(PtpWish::Auto),
            sizes_typed: [false; 2],
        },
        interface: "eth0".into(),
        port: 10666,
        log: None,
        log_stages: None,
        timestamps: Timestamps::Hardware,
        tx: TxWay::Companion,
        stamp_timeout: Duration::from_millis(100),
        stamp_every: None,
        timeout: Some(Duration::from_secs(5)),
        busypoll_us: None,
        dummies: 0,
        schedule: None,
        path: PathKind::Xdp,
        xdp_mode: XdpMode::Auto,
        zero_copy: ZeroCopy::Auto,
        queues: None,
        cpu: None,
        tuning: Tuning::default(),
        json: false,
        interval: None,
        metrics: None,
        quiet: false,
        timer: None,
        warnings: vec![],
    };
    assert_eq!(client(""), expected);
    assert_eq!(
        plan("--server -i eth0"),
        Plan { role: Role::Server { keep: false, max_rate: None, many: None }, ..expected }
    );
}

#[test]
fn each_flag_sets_its_field() {
    assert_eq!(plan("--client --interface eth1 h").interface, "eth1");
    for both in [
        ("--port 20000", "-p 20000"),
        ("--log a.csv", "-l a.csv"),
        ("--emulation", "-e"),
        ("--timeout 7", "-t 7"),
        ("--busypoll 7", "-b 7"),
        ("--dummy-pkt 7", "-x 7"),
        ("--probe-schedule a.csv", "-S a.csv"),
        ("--timer busy", "-T busy"),
        ("--count 7", "-n 7"),
        ("--delay 7", "-d 7"),
        ("--ping-size 60", "-s 60"),
        ("--pong-size 60", "-o 60"),
        ("--pong-every 7", "-y 7"),
        ("--reverse -n 1", "-R -n 1"),
        ("--duplex -n 1", "-D -n 1"),
    ] {
        assert_eq!(client(both.0), client(both.1));
        assert_ne!(client(both.0), client(""));
    }
    assert_eq!(client("--port 20000").port, 20000);
    assert_eq!(client("--log a.csv").log, Some(PathBuf::from("a.csv")));
    assert_eq!(client("--emulation").timestamps, Timestamps::Application);
    assert_eq!(client("--timestamps software").timestamps, Timestamps::Software);
    assert_eq!(client("--timestamps software --tx xsk").tx, TxWay::Xsk);
    assert_eq!(client("--emulation").tx, TxWay::Xsk);
    assert_eq!(client("--stamp-timeout 7").stamp_timeout, Duration::from_micros(7));
    assert_eq!(client("--stamp-every 7").stamp_every, Some(7));
    assert_eq!(client("--log-stages a.csv").log_stages, Some(PathBuf::from("a.csv")));
    for (line, expected) in [
        ("--ptp udp", Some(PtpWish::Udp)),
        ("--ptp l2", Some(PtpWish::L2)),
        ("--ptp auto", Some(PtpWish::Auto)),
        ("-e", None),
    ] {
        let Role::Client { ptp, .. } = client(line).role else { panic!() };
        assert_eq!(ptp, expected, "{line}");
    }
    assert_eq!(client("--timeout 7").timeout, Some(Duration::from_micros(7)));
    assert_eq!(client("--timeout 0").timeout, None);
    assert_eq!(client("--busypoll 7").busypoll_us, Some(7));
    assert_eq!(client("--dummy-pkt 7").dummies, 7);
    assert_eq!(client("--probe-schedule a.csv").schedule, Some(PathBuf::from("a.csv")));
    assert_eq!(client("--path kernel").path, PathKind::Kernel);
    assert_eq!(client("--xdp-mode native").xdp_mode, XdpMode::Native);
    assert_eq!(client("--xdp-mode generic").xdp_mode, XdpMode::Generic);
    assert_eq!(client("--zero-copy on").zero_copy, ZeroCopy::On);
    assert_eq!(client("--zero-copy off").zero_copy, ZeroCopy::Off);
    assert_eq!(client("--cpu 3").cpu, Some(3));
    assert_eq!(client("--realtime 50").tuning, Tuning { realtime: Some(50), ..Tuning::default() });
    assert!(client("--lock-memory").tuning.lock_memory);
    assert!(client("--tune --busypoll 5").tuning.napi);
    assert_eq!(client("--cpu-latency 0").tuning.cpu_latency_us, Some(0));
    assert_eq!(plan("--server -i eth0 --realtime 99").tuning.realtime, Some(99));
    assert!(client("--json").json);
    assert!(client("--quiet").quiet);
    assert_eq!(plan("--server -i eth0 --keep").role, Role::Server { keep: true, max_rate: None, many: None });
    let limited = |max_rate| Role::Server { keep: false, max_rate: Some(max_rate), many: None };
    let many = |flags: &str| plan(&format!("--server -i eth0 -e --keep {flags}")).role;
    assert_eq!(many("--clients 1"), Role::Server { keep: true, max_rate: None, many: None });
    for (flags, clients, log_dir) in
        [("--clients 2", 2, None), ("--clients 4096 --log-dir d", 4096, Some(PathBuf::from("d")))]
    {
        let Role::Server { many, .. } = many(flags) else { panic!() };
        assert_eq!(many, Some(Many { clients, log_dir }));
    }
    assert_eq!(plan("--server -i eth0 --max-rate 2.5G").role, limited(Rate::Bits(2_500_000_000)));
    assert_eq!(plan("--server -i eth0 --max-rate 500kpps").role, limited(Rate::Packets(500_000)));
    let Role::Client { connect_timeout, .. } = client("--connect-timeout 7").role else { panic!() };
    assert_eq!(connect_timeout, Some(Duration::from_micros(7)));

    assert_eq!(settings(client("--count 7")).count_s, 7);
    assert_eq!(settings(client("--ping-size 45")).ping_padding, 1);
    assert_eq!(settings(client("--pong-size 2092")).pong_padding, 2048);
    assert_eq!(settings(client("--pong-every 0")).pong_every, 0);
    assert_eq!(settings(client("--reverse --count 3600")).direction, Direction::Reverse);
    assert_eq!(settings(client("--duplex --count 1 --delay 100000000")).direction, Direction::Duplex);
}

#[test]
fn the_timer_follows_the_delay_unless_it_is_given() {
    let timer = |flags: &str| (client(flags).timer, settings(client(flags)).timer);
    assert_eq!(timer("--delay 1000"), (None, TimerKind::Busy));
    assert_eq!(timer("--delay 1001"), (None, TimerKind::Sleep));
    assert_eq!(timer("--delay 1001 --timer busy"), (Some(TimerKind::Busy), TimerKind::Busy));
    assert_eq!(timer("--timer sleep"), (Some(TimerKind::Sleep), TimerKind::Sleep));
    assert_eq!(plan("--server -i eth0 --timer busy").timer, Some(TimerKind::Busy));
    assert_eq!(plan("--server -i eth0 --timer busy").warnings, [""; 0]);
}

#[test]
fn queues_are_listed_ascending_and_once() {
    assert_eq!(client("--queue 0").queues, Some(vec![0]));
    assert_eq!(client("--queue 3,0-1,1 --queue 2-2").queues, Some(vec![0, 1, 2, 3]));
    assert_eq!(client("--queue 4094-4095").queues, Some(vec![4094, 4095]));
    for wrong in ["4096", "3-1", "1,,2", "a", "1-", "-1", "0-4096", "1-2-3"] {
        let must = "must list queues in [0, 4095], such as 0 or 0,2-3";
        assert_eq!(refused(&format!("--client -i eth0 --queue {wrong} h")), format!("--queue {wrong}: {must}"));
    }
}

#[test]
fn an_interval_is_seconds_with_or_without_a_fraction() {
    for (typed, millis) in [("1", 1000), ("0.5", 500), (".25", 250), ("0.01", 10), ("86400", 86_400_000), ("2.", 2000)]
    {
        assert_eq!(client(&format!("--interval {typed}")).interval, Some(Duration::from_millis(millis)), "{typed}");
    }
    assert_eq!(plan("--server -i eth0 --interval 1").interval, Some(Duration::from_secs(1)));
    for wrong in ["0", "0.009", "86400.1", "-1", "1s", "1e3", "inf", "NaN", "1.2.3", ".", "+1"] {
        let answer = refused(&format!("--client -i eth0 --interval {wrong} h"));
        assert_eq!(answer, format!("--interval {wrong}: must be a number in [0.01, 86400] (seconds)"));
    }
    let help = argument("interval").get_help().expect("a help").to_string();
    assert!(help.contains("0.01 to 86400"), "{help}");
}

#[test]
fn metrics_are_served_at_an_address_and_a_port() {
    for typed in ["127.0.0.1:9100", "0.0.0.0:1", "[::1]:65535"] {
        assert_eq!(client(&format!("--metrics {typed}")).metrics, Some(typed.parse().unwrap()));
        assert_eq!(plan(&format!("--server -i eth0 --metrics {typed}")).metrics, Some(typed.parse().unwrap()));
    }
    for wrong in ["9100", ":9100", "127.0.0.1", "127.0.0.1:0", "localhost:9100", "127.0.0.1:65536", "::1:9100"] {
        let must = "must be an address and a port in [1, 65535], such as 127.0.0.1:9100 or [::1]:9100";
        assert_eq!(refused(&format!("--client -i eth0 --metrics {wrong} h")), format!("--metrics {wrong}: {must}"));
    }
}

#[test]
fn getopt_long_would_read_it_the_same_way() {
    let long = client("--emulation --reverse --count 5 --delay 20 --log x");
    for other in [
        "--client -i eth0 -eRn5 -d20 -lx 10.0.0.2",
        "10.0.0.2 --count=5 --delay=20 -R -e -i eth0 --log=x --client",
        "-e 10.0.0.2 --rev --cou 5 --del 20 --int eth0 --l x --cl --emu",
        "--count 9 -n 5 -d 1 --client -i lo -eReR -i eth0 --delay 20 -l y -l x --client -- 10.0.0.2",
        // Unambiguous in nanoprobe, which has no other long option with c.
        "--client --c 5 --e --i eth0 --r --de 20 --l x 10.0.0.2",
        "--client --co 5 --e --i eth0 --r --de 20 --l x 10.0.0.2",
        "--client --co 5 --e --i eth0 --re --de 20 --lo x 10.0.0.2",
        "--client --co 5 --e --in eth0 --r --de 20 --l x 10.0.0.2",
        "--client --co 5 --e --inte eth0 --r --de 20 --l x 10.0.0.2",
        "--client --co 5 --e --inter eth0 --r --de 20 --l x 10.0.0.2",
        "--client --co 5 --e --interf eth0 --r --de 20 --l x 10.0.0.2",
    ] {
        assert_eq!(plan(other), long, "{other}");
    }
    assert_eq!(refused("--client --time 5"), "--time is ambiguous: --timer, --timeout or --timestamps");
    assert_eq!(refused("--client --pon=5"), "--pon is ambiguous: --pong-size or --pong-every");
}

#[test]
fn what_cannot_go_together_is_refused() {
    for (line, answer) in [
        ("--client --server -i eth0 h", "--client and --server exclude each other (see xdprobe --help)"),
        ("--client -i eth0 --tune h", "--tune needs --busypoll: without it nobody polls while the interrupts are off"),
        ("-i eth0 h", "--client or --server is needed (see xdprobe --help)"),
        ("--server -i eth0 h", "h is one argument too many: --server takes no host (see xdprobe --help)"),
        ("--client -i eth0 a b", "b is one argument too many: there is one host (see xdprobe --help)"),
        (
            "--client -i eth0 --max-rate 1G h",
            "--max-rate is a server's flag, and one of xdprobe sweep: it cannot go with --client (see xdprobe --help)",
        ),
        (
            "--server -i eth0 --max-rate 1e9",
            "--max-rate 1e9: must be bits a second such as 100M or 2.5G, or packets a second such as 500kpps, in [1, 1T]",
        ),
        ("--server -i eth0 --clients 4097", "--clients 4097: must be in [1, 4096] (clients)"),
        ("--server -i eth0 --clients 0", "--clients 0: must be in [1, 4096] (clients)"),
        (
            "--client -i eth0 --clients 2 h",
            "--clients is a server's flag: it cannot go with --client (see xdprobe --help)",
        ),
        (
            "--client -i eth0 --log-dir d h",
            "--log-dir is a server's flag: it cannot go with --client (see xdprobe --help)",
        ),
        ("--server -i eth0 -e --clients 2", "--clients 2 needs --keep: sessions begin and end at any time"),
        (
            "--server -i eth0 -e --keep --clients 2 --log x.csv",
            "--log cannot go with --clients 2: the rows of different clients would mix: use --log-dir",
        ),
        (
            "--server -i eth0 -e --keep --clients 2 --max-rate 1G",
            "--max-rate cannot go with --clients 2: floods are refused there",
        ),
        (
            "--server -i eth0 -e --keep --clients 2 --log-stages s.csv",
            "--log-stages is for one session at a time: it cannot go with --clients 2",
        ),
        (
            "--server -i eth0 -e --keep --log-dir d",
            "--log-dir is for the logs of many sessions at once: it needs --clients 2 or more, or use --log",
        ),
        (
            "--server -i eth0 -e --keep --clients 1 --log-dir d",
            "--log-dir is for the logs of many sessions at once: it needs --clients 2 or more, or use --log",
        ),
        ("--client -i eth0 --keep h", "--keep is a server's flag: it cannot go with --client (see xdprobe --help)"),
        (
            "--server -i eth0 --connect-timeout 5",
            "--connect-timeout is a client's flag: it cannot go with --server (see xdprobe --help)",
        ),
        (
            "--client -i eth0 -e --timestamps hardware h",
            "--emulation is --timestamps application: it cannot go with another --timestamps",
        ),
        (
            "--client -i eth0 --xdp-mode generic --zero-copy on h",
            "--zero-copy on cannot go with --xdp-mode generic: only drivers have zero-copy",
        ),
        ("--client -i eth0 -R h", "--reverse needs --count in [1, 3600] (seconds)"),
        ("--client -i eth0 -D -n 1 -d 100000001 h", "--delay 100000001: must be in [0, 100000000] (µs) with --duplex"),
        // As in nanoprobe: the schedule is this side's, the SYN is for the other.
        ("--client -i eth0 -D -S a.csv h", "--duplex needs --count in [1, 3600] (seconds)"),
    ] {
        assert_eq!(refused(line), answer, "{line}");
    }
    for flag in ["--xdp-mode auto", "--zero-copy off", "--queue 1"] {
        let name = flag.split(' ').next().expect("a flag");
        let answer = format!("{name} is a flag of --path xdp: it cannot go with --path kernel");
        assert_eq!(refused(&format!("--client -i eth0 --path kernel {flag} h")), answer);
    }
    assert_eq!(client("-e --timestamps application").timestamps, Timestamps::Application);
}

#[test]
fn a_server_takes_a_clients_flags_with_a_warning_but_not_with_a_wrong_value() {
    let server = plan("--server -i eth0 -n 0 -d 5 -s 60 -o 60 -y 2 -R -D");
    let flags = ["--count", "--delay", "--ping-size", "--pong-size", "--pong-every", "--reverse", "--duplex"];
    let told = flags.map(|flag| format!("{flag} is not used: a server does what its client asks for"));
    assert_eq!(server.warnings, told);
    assert_eq!(Plan { warnings: vec![], ..server }, plan("--server -i eth0"));
    assert_eq!(refused("--server -i eth0 -s 43"), "--ping-size 43: must be in [44, 2092] (bytes with the IP header)");
}

#[test]
fn pongs_with_stamps_are_large_enough_for_them_and_there_are_pongs() {
    let asked = settings(client("--in-band"));
    assert_eq!(asked, Settings { in_band: true, pong_padding: 56, ..Settings::default() });
    assert_eq!(settings(client("--in-band -R -n 1 -o 100")).pong_padding, 56);
    assert_eq!(settings(client("--in-band -o 101 -s 44")).pong_padding, 57);
    for size in [44, 99] {
        let answer = format!("--pong-size {size}: must be at least 100 (bytes with the IP header) with --in-band");
        assert_eq!(refused(&format!("--client -i eth0 --in-band --pong-size {size} h")), answer);
    }
    assert_eq!(refused("--client -i eth0 --in-band -D -n 1 h"), "--in-band cannot go with --duplex: nobody pongs");
    let told = "--in-band is not used: a server does what its client asks for";
    assert_eq!(plan("--server -i eth0 --in-band").warnings, [told]);
    // nanoprobe knows no other long option that begins so.
    for abbreviated in ["--i", "--in", "--int"] {
        assert_eq!(plan(&format!("--server {abbreviated} eth7")).interface, "eth7");
    }
}

#[test]
fn a_flag_without_effect_is_told() {
    let server = plan("--server -i eth0 --quiet");
    assert_eq!(server.warnings, ["--quiet is not used: only a client shows a line a second"]);
    assert_eq!(
        client("-R -n 1 -S a.csv").warnings,
        ["--probe-schedule is not used: with --reverse the server pings, so give it to the server"]
    );
    assert_eq!(
        client("-D -n 1 -o 60 -y 2").warnings,
        ["--pong-size is not used: with --duplex nobody pongs", "--pong-every is not used: with --duplex nobody pongs"]
    );
}

#[test]
fn a_wrong_command_line_is_one_line_whatever_was_typed() {
    let typed: [&[&str]; 6] = [
        &["--client", "-i", "eth0", "--count", "1\n2", "h"],
        &["--client", "-i", "eth0", "--timer", "a\nb", "h"],
        &["--client", "-i", "eth0", "h", "a\nb"],
        &["--a\nb"],
        &["--client", "-i", "eth0", "--json=a\nb", "h"],
        &["--client", "-i", "", "h"],
    ];
    for words in typed {
        let words = ["xdprobe"].iter().chain(words).map(OsString::from);
        let error = parse(words).expect_err("it is wrong").to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_misspelt_flag_gets_a_suggestion() {
    assert_eq!(
        refused("--client --pingsize 60"),
        "--pingsize is no flag of xdprobe; did you mean --ping-size? (see xdprobe --help)"
    );
    assert_eq!(refused("-q"), "-q is no flag of xdprobe (see xdprobe --help)");
    assert_eq!(refused("--json=1"), "--json takes no value, got 1 (see xdprobe --help)");
    assert_eq!(refused("--client -i"), "--interface needs a value: <nic> (see xdprobe --help)");
    assert_eq!(refused("--path tcp"), "--path tcp: must be xdp or kernel");
    assert_eq!(refused("--xdp-mode x"), "--xdp-mode x: must be auto, native or generic");
    assert_eq!(cli::DEFAULT_PORT, 10666);
}

#[test]
fn the_readme_has_every_flag_with_its_default() {
    let readme = include_str!("../README.md");
    for flag in command().get_opts() {
        let long = flag.get_long().expect("every flag has a long name");
        let short = flag.get_short().map(|short| format!(", `-{short}`")).unwrap_or_default();
        let begins = format!("| `--{long}`{short} |");
        let row = readme.lines().find(|line| line.starts_with(&begins)).unwrap_or_else(|| panic!("no {begins}"));
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        if let (true, Some(default)) = (takes_value(flag), flag.get_default_values().first()) {
            let default = default.to_str().expect("defaults are text");
            assert!(columns[4] == default || columns[4].starts_with(&format!("{default}:")), "{row}");
        }
        if let Some((_, min, max, _)) = NUMBERS.iter().find(|number| number.0 == long) {
            assert_eq!(columns[3], format!("{min} to {max}"), "{row}");
        }
    }
}

#[test]
fn the_readme_names_each_flag_of_a_client_that_a_comparison_does_not_take() {
    let compare = compare_command();
    let taken: Vec<&str> = compare.get_opts().filter_map(Arg::get_long).collect();
    // A server's, and what is no measurement.
    let others = ["client", "server", "keep", "clients", "log-dir", "max-rate", "version", "generate"];
    let readme = include_str!("../README.md");
    let (_, named) = readme.split_once(" are a client's. A client's `--count`").expect("the sentence");
    let named = format!("`--count`{}", named.split_once("it does not take").expect("its end").0);
    for flag in command().get_opts().filter_map(Arg::get_long).filter(|flag| !others.contains(flag)) {
        assert_eq!(named.contains(&format!("`--{flag}`")), !taken.contains(&flag), "--{flag}: {named}");
    }
}

#[test]
fn a_comparison_has_a_clients_measuring_flags_and_its_own() {
    let compared = |line: &str| match parse(words(line)) {
        Ok(Parsed::Compare(plan)) => plan,
        answer => panic!("{line}: {answer:?}"),
    };
    let least = compared("compare -i eth0 h");
    assert_eq!((least.rounds, least.matrix, least.html.clone()), (10, false, None));
    let Role::Client { settings, connect_timeout, ref host, .. } = least.client.role else { panic!("{least:?}") };
    assert_eq!((host.as_str(), connect_timeout), ("h", Some(Duration::from_secs(5))));
    let expected = Settings { count_s: 1, account: true, serve_on: None, ..Settings::default() };
    assert_eq!(settings, Settings { in_band: true, pong_padding: 56, ..expected });
    assert_eq!(
        (least.client.path, least.client.timestamps, least.client.json),
        (PathKind::Xdp, Timestamps::Hardware, false)
    );
    let all = compared(
        "compare --rounds 3 --round-time 2 --matrix --html x.html -e -d 50 -s 100 -o 200 --cpu 1 -T sleep --json -p 7 \
         --queue 0,2 -b 5 --realtime 3 --lock-memory --cpu-latency 7 --tune --xdp-mode generic --zero-copy off --connect-timeout 0 --int eth0 h",
    );
    assert_eq!((all.rounds, all.matrix, all.html), (3, true, Some("x.html".into())));
    let Role::Client { settings, connect_timeout, .. } = all.client.role else { panic!() };
    assert_eq!((settings.count_s, settings.delay_us, settings.ping_padding, settings.pong_padding), (2, 50, 56, 156));
    assert_eq!((settings.timer, connect_timeout), (TimerKind::Sleep, None));
    assert_eq!((all.client.port, all.client.cpu, all.client.json), (7, Some(1), true));
    assert_eq!((all.client.queues, all.client.busypoll_us), (Some(vec![0, 2]), Some(5)));
    let expected = Tuning { realtime: Some(3), lock_memory: true, cpu_latency_us: Some(7), napi: true };
    assert_eq!(all.client.tuning, expected);

    let refused = |line: &str| match parse(words(line)) {
        Err(error) => error.to_string(),
        answer => panic!("{line}: {answer:?}"),
    };
    for (line, words) in [
        (
            "compare -i eth0",
            "xdprobe compare needs the server's name or address as its last argument (see xdprobe compare --help)",
        ),
        ("compare h", "--interface <nic> is needed (see xdprobe compare --help)"),
        ("compare -i eth0 --rounds 2 h", "--rounds 2: must be in [3, 10000] (rounds)"),
        ("compare -i eth0 --round-time 0 h", "--round-time 0: must be in [1, 3600] (seconds)"),
        ("compare -i eth0 --client h", "--client is no flag of xdprobe compare"),
        ("compare -i eth0 --count 3 h", "--count is no flag of xdprobe compare"),
        ("compare -i eth0 --path kernel h", "--path is no flag of xdprobe compare"),
        ("compare -i eth0 -n3 h", "-n is no flag of xdprobe compare"),
        ("compare -i eth0 -e --timestamps software h", "--emulation is --timestamps application"),
        ("compare -i eth0 -o 99 h", "--pong-size 99: must be at least 100 (bytes with the IP header)"),
        ("compare -i eth0 --in-band h", "--in-band is no flag of xdprobe compare"),
        ("compare -i eth0 h h", "h is one argument too many"),
    ] {
        assert!(refused(line).contains(words), "{line}: {}", refused(line));
    }
    compare_command().debug_assert();
    let help = printed("compare --help");
    assert_eq!(printed("compare -h"), help);
    for flag in compare_command().get_opts() {
        assert!(help.contains(&format!("--{}", flag.get_long().unwrap())), "{flag:?}");
    }
    assert!(help.contains("[default: 5000000]") && help.contains("100 to 2092"), "{help}");
    assert_names_only_its_own_flags(&help, &compare_command());
    for what in ["man", "bash", "zsh", "fish"] {
        assert!(printed(&format!("--generate {what}")).replace(r"\-", "-").contains("round-time"), "{what}");
    }
}

#[test]
fn the_headings_of_the_helps_are_in_one_order() {
    let headings = |line: &str| -> Vec<String> {
        let help = printed(line);
        let (flags, _) = help.split_once("\nOutput:").unwrap();
        let is_heading = |line: &&str| line.ends_with(':') && !line.starts_with(' ');
        flags.lines().filter(is_heading).map(str::to_owned).collect()
    };
    let others = ["Pings:", "Time stamps and path:"];
    assert_eq!(headings("compare --help"), [&["Interface and server:", "Rounds:"][..], &others].concat());
    assert_eq!(headings("sweep --help"), [&["Interface and server:", "Load:"][..], &others].concat());
    let measurement = headings("--help");
    assert_eq!((measurement[0].as_str(), measurement.last().unwrap().as_str()), ("Role:", others[1]));
}

#[test]
fn every_help_says_what_the_program_ends_with() {
    for line in ["--help", "compare --help", "sweep --help", "report --help", "caps --help"] {
        let help = printed(line).split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, codes) = help.split_once("Exit code: 0 ").unwrap_or_else(|| panic!("{line}: {help}"));
        assert!(codes.contains(", 1 ") && codes.ends_with(", 2 the command line is wrong."), "{line}: {codes}");
    }
}

/// A help speaks of no flag that the command does not have, nor of the roles that it does not know. Of others' command lines, the
/// server's, it does.
fn assert_names_only_its_own_flags(help: &str, command: &clap::Command) {
    let lines: Vec<_> = help.lines().filter(|line| !line.contains("--server")).collect();
    for word in lines.iter().flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')) {
        if let Some(long) = word.strip_prefix("--").filter(|long| !["", "keep"].contains(long)) {
            assert!(command.get_opts().any(|flag| flag.get_long() == Some(long)), "--{long}: {help}");
        }
    }
    for words in ["Client:", "a client's", "a server's", "a server ignores"] {
        assert!(!help.contains(words), "{words:?}: {help}");
    }
}

fn caps(line: &str) -> CapsPlan {
    match parse(words(line)) {
        Ok(Parsed::Caps(plan)) => plan,
        answer => panic!("{line}: {answer:?}"),
    }
}

#[test]
fn the_subcommand_stands_first_and_has_its_own_flags() {
    let eth0 = CapsPlan { interface: "eth0".into(), json: false };
    for line in ["caps -i eth0", "caps --interface=eth0", "caps --int eth0", "caps -i lo -i eth0"] {
        assert_eq!(caps(line), eth0, "{line}");
    }
    assert_eq!(caps("caps --json -ieth0"), CapsPlan { json: true, ..eth0 });
    for (line, answer) in [
        ("caps", "--interface <nic> is needed (see xdprobe caps --help)"),
        ("caps -i", "--interface needs a value: <nic> (see xdprobe caps --help)"),
        ("caps -i=", "--interface \"\": must name a network interface"),
        ("caps -i eth0 10.0.0.2", "10.0.0.2 is one argument too many: there are only flags (see xdprobe caps --help)"),
        ("caps -i eth0 --client", "--client is no flag of xdprobe caps (see xdprobe caps --help)"),
        ("-i eth0 caps", "--client or --server is needed (see xdprobe --help)"),
    ] {
        assert_eq!(refused(line), answer, "{line}");
    }
}

fn sweep(line: &str) -> SweepPlan {
    match parse(words(&format!("sweep -i eth0 {line}"))) {
        Ok(Parsed::Sweep(plan)) => plan,
        answer => panic!("{line}: {answer:?}"),
    }
}

#[test]
fn a_sweep_has_its_own_flags_and_a_clients() {
    sweep_command().debug_assert();
    let plan = sweep("--rates 10,50%,1G h");
    let rates = [Target::Share(100_000), Target::Share(500_000), Target::Rate(Rate::Bits(1_000_000_000))];
    let Role::Client { host, settings, connect_timeout, .. } = &plan.client.role else { panic!() };
    assert_eq!((host.as_str(), settings.delay_us, *connect_timeout), ("h", 100, Some(Duration::from_secs(5))));
    let SweepPlan { targets, load_size, pattern, step_time_s, max_rate, json, html, .. } = &plan;
    assert_eq!((targets.as_slice(), *load_size, *pattern, *step_time_s), (&rates[..], None, Pattern::Cbr, 2));
    assert_eq!((*max_rate, *json, html.is_none()), (None, false, true));
    assert_eq!(plan.client, Plan { role: plan.client.role.clone(), ..client("") });

    let line = "-e -d 500 -s 60 --path kernel --cpu 3 -p 7 --rates 5kpps --load-size 1400 --pattern poisson --seed 9 --step-time \
                10 --max-rate 10kpps --json --html x.html --connect-timeout 0 h";
    let plan = sweep(line);
    assert_eq!((plan.load_size, plan.pattern, plan.step_time_s), (Some(1400), Pattern::Poisson { seed: 9 }, 10));
    assert_eq!(
        (plan.max_rate, plan.json, plan.html),
        (Some(Rate::Packets(10_000)), true, Some(PathBuf::from("x.html")))
    );
    let Plan { timestamps, path, cpu, port, role, .. } = plan.client;
    assert_eq!((timestamps, path, cpu, port), (Timestamps::Application, PathKind::Kernel, Some(3), 7));
    let Role::Client { settings, connect_timeout, .. } = role else { panic!() };
    assert_eq!((settings.delay_us, settings.ping_padding, connect_timeout), (500, 16, None));
}

#[test]
fn a_wrong_sweep_is_refused_with_the_flag_and_its_range() {
    let rates = "must list 1 to 32 rates, the last one with its unit: shares of the link in (0, 100] such as 10,50,90%, bits a second in [1, 1T] such as \
                 100M,1G, or packets a second in [1, 1T] such as 10,50kpps";
    let rate = "must be bits a second such as 100M or 2.5G, or packets a second such as 500kpps, in [1, 1T]";
    for (line, answer) in [
        ("h", "--rates <list> is needed: what load each step is to have (see xdprobe sweep --help)".to_owned()),
        (
            "--rates 1G",
            "xdprobe sweep needs the server's name or address as its last argument (see xdprobe sweep --help)".into(),
        ),
        ("--rates 10,20 h", format!("--rates 10,20: {rates}")),
        ("--rates 0% h", format!("--rates 0%: {rates}")),
        ("--rates 101% h", format!("--rates 101%: {rates}")),
        ("--rates 2T h", format!("--rates 2T: {rates}")),
        ("--rates 1G --max-rate 1e6 h", format!("--max-rate 1e6: {rate}")),
        ("--rates 1G --max-rate 10% h", format!("--max-rate 10%: {rate}")),
        ("--rates 10M,1G --max-rate 100M h", "--rates: 1 Gbit/s is more than --max-rate 100 Mbit/s".into()),
        ("--rates 1G --load-size 43 h", "--load-size 43: must be in [44, 2092] (bytes with the IP header)".into()),
        ("--rates 1G --step-time 0 h", "--step-time 0: must be in [1, 3600] (seconds)".into()),
        ("--rates 1G --seed x h", "--seed x: must be a whole number in [0, 4294967295] (any number)".into()),
        ("--rates 1G --pattern burst h", "--pattern burst: must be cbr or poisson".into()),
        ("--rates 1G --delay 0 h", "--delay 0: must be in [1, 100000] (µs)".into()),
        ("--rates 1G --delay 100001 h", "--delay 100001: must be in [1, 100000] (µs)".into()),
        ("--rates 1G --count 5 h", "--count is no flag of xdprobe sweep (see xdprobe sweep --help)".into()),
        ("--rates 1G --keep h", "--keep is no flag of xdprobe sweep (see xdprobe sweep --help)".into()),
        (
            "--rates 1G --path kernel --queue 0 h",
            "--queue is a flag of --path xdp: it cannot go with --path kernel".into(),
        ),
    ] {
        assert_eq!(refused(&format!("sweep -i eth0 {line}")), answer, "{line}");
    }
    assert_eq!(refused("sweep --rates 1G h"), "--interface <nic> is needed (see xdprobe sweep --help)");
}

#[test]
fn the_sweep_is_in_help_man_page_completions_and_readme() {
    let help = printed("sweep --help");
    let readme = include_str!("../README.md");
    let page = printed("--generate man").replace('\\', "");
    for flag in sweep_command().get_opts() {
        let long = flag.get_long().expect("every flag has a long name");
        assert!(flag.get_help().is_some() && help.contains(&format!("--{long}")), "--{long}");
        assert!(readme.contains(&format!("`--{long}")) && page.contains(&format!("--{long}")), "--{long}");
    }
    assert_names_only_its_own_flags(&help, &sweep_command());
    let widest = help.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?} columns");
    assert!(printed("--help").contains("xdprobe sweep --interface <nic> --rates <list>"));
    for what in ["bash", "zsh", "fish"] {
        assert!(printed(&format!("--generate {what}")).contains("load-size"), "{what}");
    }
}

#[test]
fn a_mistyped_subcommand_is_taken_for_no_host() {
    for (line, typed, meant) in [
        ("repor a.csv b.csv", "repor", "report"),
        ("reprot a.csv --json", "reprot", "report"),
        ("swep --rates 10% -i eth0 10.0.0.2", "swep", "sweep"),
        ("comapre -i eth0 10.0.0.2", "comapre", "compare"),
        ("cap -i eth0", "cap", "caps"),
        ("Report a.csv", "Report", "report"),
    ] {
        let said =
            format!("there is no subcommand {typed}; did you mean {meant}? A host needs --client (see xdprobe --help)");
        assert_eq!(refused(line), said, "{line}");
    }
    for (typed, role) in [("client", "client"), ("server", "server"), ("clinet", "client"), ("serve", "server")] {
        let said = format!("there is no subcommand {typed}; did you mean --{role}? (see xdprobe --help)");
        assert_eq!(refused(&format!("{typed} -i eth0 10.0.0.2")), said);
    }
    // What is a host stays one, whatever else is wrong.
    assert_eq!(refused("repor --cl -i eth0 a b"), "a is one argument too many: there is one host (see xdprobe --help)");
    assert_eq!(refused("10.0.0.2 -i eth0"), "--client or --server is needed (see xdprobe --help)");
    assert_eq!(refused("repor --client"), "--interface <nic> is needed (see xdprobe --help)");
    assert!(matches!(plan("repor --client -i eth0").role, Role::Client { host, .. } if host == "repor"));
}

#[test]
fn a_host_may_have_the_subcommands_name() {
    let plan = plan("--client -i eth0 caps");
    assert!(matches!(plan.role, Role::Client { host, .. } if host == "caps"));
}

#[test]
fn the_subcommand_is_in_help_man_page_completions_and_readme() {
    caps_command().debug_assert();
    let help = printed("caps --help");
    assert_eq!(printed("caps -h"), help);
    for flag in caps_command().get_opts() {
        let long = flag.get_long().expect("every flag has a long name");
        assert!(flag.get_help().is_some() && help.contains(&format!("--{long}")), "--{long}");
    }
    assert!(printed("--help").contains("xdprobe caps --interface <nic> [--json]"));
    for what in ["man", "bash", "zsh", "fish"] {
        assert!(printed(&format!("--generate {what}")).contains("caps"), "{what}");
    }
    let page = printed("--generate man").replace('\\', "");
    let (_, commands) = page.split_once(".SH COMMANDS").expect("the section");
    for flag in caps_command().get_opts().filter_map(Arg::get_long) {
        assert!(commands.contains(&format!("--{flag}")), "--{flag}");
    }
    assert!(include_str!("../README.md").contains("xdprobe caps --interface"));
}

#[test]
fn report_is_in_help_man_page_completions_and_readme() {
    report_command().debug_assert();
    let help = printed("report --help");
    let page = printed("--generate man").replace('\\', "");
    let (_, commands) = page.split_once(".SH COMMANDS").expect("the section");
    let readme = include_str!("../README.md");
    for flag in report_command().get_opts() {
        let long = flag.get_long().expect("every flag has a long name");
        assert!(flag.get_help().is_some() && help.contains(&format!("--{long}")), "--{long}");
        assert!(commands.contains(&format!("--{long}")), "--{long}");
        assert!(long == "help" || readme.contains(&format!("| `--{long}` |")), "--{long}");
    }
    assert!(printed("--help").contains("xdprobe report [options] <client.csv> [<server.csv>]"));
    for what in ["bash", "zsh", "fish"] {
        let text = printed(&format!("--generate {what}"));
        assert!(text.contains("report") && text.contains("server-session"), "{what}");
    }
}

#[test]
fn report_takes_its_logs_in_pairs() {
    let Ok(Parsed::Report(plan)) =
        parse(words("report a.csv b.csv --with c.csv,d.csv --with e.csv --label x --session 3"))
    else {
        panic!("a report")
    };
    let pairs: Vec<(String, Option<String>)> = plan
        .inputs
        .iter()
        .map(|input| {
            let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
            (text(&input.client), input.server.as_deref().map(text))
        })
        .collect();
    let pair = |one: &str, other: Option<&str>| (one.to_owned(), other.map(str::to_owned));
    assert_eq!(pairs, [pair("a.csv", Some("b.csv")), pair("c.csv", Some("d.csv")), pair("e.csv", None)]);
    assert_eq!(
        (plan.inputs[0].session, plan.inputs[0].server_session, plan.inputs[1].session),
        (Some(3), Some(3), None)
    );
    assert_eq!((plan.inputs[0].label.as_str(), plan.inputs[1].label.as_str()), ("x", ""));
}
