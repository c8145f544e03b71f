//! Scenarios on QEMU's Intel 82576: a driver that is not ours. It stamps all that it sends, of what it receives only PTP
//! events; this emulation stamps the first of those over Ethernet and then stays latched.

use crate::Scenario;
use crate::outcome::{Outcome, SIDES, Side};
use crate::session::{Logs, MODES, Mode, PATHS, Session, Stamps, number};
use serde_json::Value;

/// `HWTSTAMP_TX_ON` and `HWTSTAMP_FILTER_PTP_V2_EVENT` of `linux/net_tstamp.h`.
const PTP_ON: (u32, u32) = (1, 12);

pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for path in PATHS {
        for mode in MODES {
            let session = Session::new(mode, &format!("--timestamps application --path {path}"));
            all.push(scenario(format!("application-{path}-{}", mode.name()), &session, move |outcome| {
                outcome.assert_success();
                Logs::of(outcome).assert_complete(mode);
                outcome.assert_unchanged();
            }));
            let session = Session::ptp(mode, path, "--ptp l2 --stamp-every 1");
            all.push(scenario(format!("hardware-{path}-{}", mode.name()), &session, assert_all_sent_are_stamped));
        }
        all.push(Scenario::new(format!("signal-{path}"), interrupted(path), |outcome| {
            assert_eq!(outcome.hwtstamp(Side::Client, "during"), PTP_ON, "stamping is on while it measures");
            outcome.assert_unchanged();
        }));
    }
    for (copying, flag) in [(true, "off"), (false, "on")] {
        let session =
            Session::new(Mode::Forward, &format!("--timestamps application --xdp-mode native --zero-copy {flag}"));
        all.push(scenario(format!("zero-copy-{flag}"), &session, move |outcome| {
            outcome.assert_success();
            Logs::of(outcome).assert_complete(Mode::Forward);
            for side in SIDES {
                let json = outcome.json(side);
                assert_eq!(json["zero_copy"], !copying);
                assert_eq!(json["xdp_mode"], "native");
            }
        }));
        let both = format!("--timestamps hardware --stamp-timeout 1000000 --xdp-mode native --zero-copy {flag}");
        let session = Session::of_two(Mode::Forward, &both, &format!("{both} --ptp l2 --stamp-every 1"));
        all.push(scenario(format!("hardware-zero-copy-{flag}"), &session, move |outcome| {
            assert_all_sent_are_stamped(outcome);
            for side in SIDES {
                let json = outcome.json(side);
                assert_eq!((&json["zero_copy"], &json["xdp_mode"]), (&(!copying).into(), &"native".into()));
            }
        }));
    }
    all.extend(carrier());
    // FILTER_ALL is refused; PTP is chosen, and the user is told.
    let session = Session::hardware(Mode::Forward, "xdp", "");
    all.push(scenario("all-refused", &session, |outcome| {
        for side in SIDES {
            let said = outcome.stderr(side);
            let (nic, words) = match side {
                Side::Client => ("eth0 (driver igb)", "travel behind PTP headers over UDP port 319"),
                Side::Server => ("eth1 (driver igb)", "only clients with --ptp are served"),
            };
            assert!(said.contains(nic) && said.contains(words), "the {} tells of its choice: {said}", side.name());
        }
        assert_all_sent_are_stamped(outcome);
    }));
    let script = "nics eth0 eth1\nset_hwtstamp client 0 0\nset_hwtstamp server 0 0\nhwtstamp before\n\
                  begin caps client xdprobe caps --interface eth0 --json\nfinish caps\nobserve\n";
    all.push(Scenario::new("caps", script, |outcome| {
        assert_eq!(outcome.code("caps"), 0);
        let caps: Value = serde_json::from_str(&outcome.file("caps.out")).expect("one JSON object");
        assert_eq!(caps["driver"]["value"]["name"], "igb");
        assert_eq!(caps["best_stamps"]["timestamps"], "hardware", "{}", caps["best_stamps"]);
        outcome.assert_unchanged();
    }));
    all
}

/// The driver takes the carrier away over XDP, and nobody sends before it is back.
fn carrier() -> Vec<Scenario> {
    let begin = "nics eth0 eth1\nset_hwtstamp client 0 0\nset_hwtstamp server 0 0\nhwtstamp before\n";
    let flags = "--json --timestamps application --zero-copy off";
    let session = format!(
        "wait_for_line server.err started 1\ncarrier started\nclient {flags} --count 2 --delay 5000\n\
         wait_for_rows client 20\ncarrier during\nfinish client server\nobserve\n"
    );
    let assert_first_ping_arrived = |outcome: &Outcome| {
        outcome.assert_success();
        Logs::of(outcome).assert_complete(Mode::Forward);
        // The first ping too. SYN and FIN may be sent again where a guest is slow, so they tell nothing.
        let client = outcome.json(Side::Client);
        assert_eq!((number(&client, "lost"), number(&client, "tx_dropped")), (0, 0), "{client}");
        outcome.assert_unchanged();
    };
    let script = format!("{begin}carrier before\nserver {flags}\n{session}");
    let back_soon = Scenario::new("carrier-back-soon", script, move |outcome| {
        for (side, when) in [(Side::Server, "started"), (Side::Client, "during")] {
            let ((_, before), (is_there, after)) = (outcome.carrier(side, "before"), outcome.carrier(side, when));
            assert!(is_there && after >= before + 2, "it went and came at the {}: {before}, {after}", side.name());
        }
        assert_first_ping_arrived(outcome);
    });
    // With the cable pulled it stays away for as long as it takes to see that it is waited for, and told.
    let script = format!(
        "{begin}cable eth1 off\nwhile ip -n server -o link show dev eth1 | grep -q LOWER_UP; do sleep 0.05; done\ncarrier before\n\
         server {flags}\nwait_for_line server.err 'waiting for the carrier of eth1' 1\ncarrier waiting\n\
         if grep -q started $out/server.err; then touch $out/hasty; fi\ncable eth1 on\n{session}"
    );
    let back_late = Scenario::new("carrier-back-late", script, move |outcome| {
        assert!(!outcome.carrier(Side::Server, "waiting").0 && outcome.try_file("hasty").is_none(), "it waits");
        assert!(outcome.carrier(Side::Server, "started").0, "and starts with a carrier");
        assert_first_ping_arrived(outcome);
    });
    vec![back_soon, back_late]
}

fn scenario(name: impl Into<String>, session: &Session, check: impl Fn(&Outcome) + Send + 'static) -> Scenario {
    Scenario::new(
        name,
        format!("nics eth0 eth1\nset_hwtstamp client 0 0\nset_hwtstamp server 0 0\n{}", session.line()),
        check,
    )
}

/// Each ping and pong for which a transmit stamp was asked has it; of the receive stamps the missing ones are counted.
fn assert_all_sent_are_stamped(outcome: &Outcome) {
    outcome.assert_success();
    for side in SIDES {
        let stamps = Stamps::of(&outcome.json(side));
        assert!(stamps.tx_requested > 3, "{stamps:?}");
        assert_eq!((stamps.tx, stamps.tx_missed), (stamps.tx_requested, 0), "{stamps:?}");
        assert!(stamps.rx_missed > 0, "the register stays latched: {stamps:?}");
    }
    outcome.assert_unchanged();
}

/// A session that both sides are stopped in.
fn interrupted(path: &str) -> String {
    let mut session = Session::ptp(Mode::Forward, path, "--ptp l2");
    session.client += " --count 0";
    format!(
        "nics eth0 eth1\nset_hwtstamp client 0 0\nset_hwtstamp server 0 0\nhwtstamp before\nserver {}\nclient {}\nwait_for_rows client 20\nhwtstamp during\n\
         send_signal INT client\nsend_signal INT server\nfinish client server\nobserve\n",
        session.server, session.client
    )
}
