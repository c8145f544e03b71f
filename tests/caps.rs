//! `xdprobe caps` on links in network namespaces. Needs root.

#[path = "support/programs.rs"]
mod programs;

use nix::net::if_::if_nametoindex;
use programs::{CLIENT_ADDRESS, CLIENT_LINK, Lan, Side};
use serde_json::{Value, json};
use xdprobe::net::{netdev, tsinfo, tuning};
use xdprobe::path::xdp::attached_program;

/// All that can be seen of the link and could have been changed.
fn state(lan: &Lan) -> String {
    let namespace = lan.namespace(Side::Client);
    let shown = namespace.ip(&["-d", "address", "show"]) + &namespace.ip(&["neigh", "show"]);
    let asked = namespace.run(|| {
        let index = if_nametoindex(CLIENT_LINK).expect("the link exists");
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            tsinfo::tsinfo(index),
            netdev::xdp_features(index),
            netdev::rx_queues(index),
            tuning::coalescing(index),
            tuning::active_features(index),
            attached_program(index),
        )
    });
    shown + &asked
}

fn caps_json(lan: &Lan, interface: &str) -> Value {
    let run = lan.run(Side::Client, &["caps", "--interface", interface, "--json"]);
    assert_eq!((run.code(), run.stderr().as_str()), (Some(0), ""), "{}", run.all_output());
    assert_eq!(run.stdout().lines().count(), 1);
    serde_json::from_str(&run.stdout()).expect("one JSON object")
}

#[test]
fn nothing_is_changed() {
    let lan = Lan::new(2);
    let before = state(&lan);
    assert!(before.contains("rx-vlan-hw-parse"), "{before}");
    let text = lan.run(Side::Client, &["caps", "-i", CLIENT_LINK]);
    assert_eq!(text.code(), Some(0), "{}", text.all_output());
    caps_json(&lan, CLIENT_LINK);
    assert_eq!(state(&lan), before);
    lan.assert_unchanged();
}

#[test]
fn a_veth_is_described_as_the_kernel_has_it() {
    let lan = Lan::new(2);
    let found = caps_json(&lan, CLIENT_LINK);
    let value = |key: &str| &found[key]["value"];
    assert_eq!(found["interface"], CLIENT_LINK);
    assert_eq!(value("driver")["name"], "veth");
    assert_eq!(*value("rx_queues"), 2);
    assert_eq!(*value("state"), json!({ "is_up": true, "address": CLIENT_ADDRESS, "mtu": 1500 }));
    assert_eq!((value("phc"), &found["phc"]["is_known"]), (&Value::Null, &json!(true)));
    assert_eq!(*value("tx_stamps"), json!({ "hardware": [], "software": true }));
    assert_eq!(*value("rx_stamps"), json!({ "hardware": [], "software": true }));
    assert_eq!(*value("stamping"), Value::Null);
    assert!(value("rx_metadata").as_array().expect("a list").contains(&json!("timestamp")));
    assert_eq!(*value("tx_metadata"), json!([]));
    assert!(value("xdp").as_array().expect("a list").contains(&json!("basic")));
    assert_eq!(value("zero_copy")["has"], false);
    assert_eq!(*value("trial_load"), json!({ "is_accepted": true }));
    let no_napi = json!([{ "queue": 0, "napi_id": null }, { "queue": 1, "napi_id": null }]);
    assert_eq!(*value("busy_polling"), no_napi);
    let privileges = value("privileges").as_object().expect("capabilities by name");
    assert_eq!(privileges.len(), 7);
    for (name, told) in privileges {
        assert_eq!(told["has"], true, "root has {name}");
        assert!(told["for"].as_str().is_some_and(|words| words.len() > 20), "{name}: {told}");
    }
    let best = &found["best_stamps"];
    assert_eq!(best["client"], format!("xdprobe --client --interface {CLIENT_LINK} --timestamps software HOST"));
    assert_eq!(best["server"], format!("xdprobe --server --interface {CLIENT_LINK} --timestamps software"));
}

#[test]
fn loopback_has_the_kernel_path_only() {
    let lan = Lan::new(1);
    let found = caps_json(&lan, "lo");
    assert_eq!(found["driver"]["value"], Value::Null);
    assert_eq!(found["xdp"]["value"], json!([]));
    let bound = &found["device_bound_load"];
    assert_eq!(bound["value"]["is_accepted"], false);
    assert!(
        bound["meaning"].as_str().is_some_and(|words| words.starts_with("The driver runs no XDP programs")),
        "{bound}"
    );
    assert_eq!(found["best_stamps"]["path"], "kernel");
}

#[test]
fn a_link_that_is_down_is_described_too() {
    let lan = Lan::new(1);
    lan.namespace(Side::Client).ip(&["link", "set", "dev", CLIENT_LINK, "down"]);
    let found = caps_json(&lan, CLIENT_LINK);
    assert_eq!(found["state"]["value"]["is_up"], false);
    let meaning = found["state"]["meaning"].as_str().expect("text");
    assert!(meaning.ends_with(&format!("It must be up: ip link set dev {CLIENT_LINK} up.")), "{meaning}");
    assert!(found["best_stamps"]["meaning"].as_str().is_some_and(|reason| reason.contains("must be up")), "{found}");
}

#[test]
fn a_program_that_is_attached_is_named() {
    let lan = Lan::new(1);
    let mut server = lan.start(Side::Client, &["--server", "-i", CLIENT_LINK, "-e"]);
    server.wait_for_line("server started");
    let found = caps_json(&lan, CLIENT_LINK);
    server.signal(nix::sys::signal::Signal::SIGINT);
    server.finish();
    let program = &found["attached_program"]["value"];
    assert_eq!((&program["name"], &program["mode"]), (&json!("xdprobe_steer"), &json!("xdpdrv")), "{program}");
    assert_eq!(found["best_stamps"]["path"], "kernel");
}

/// What the report tells of each capability to a process that has only those that `setpriv --bounding-set` leaves.
fn privileges(lan: &Lan, bounding_set: &str) -> Value {
    let program = env!("CARGO_BIN_EXE_xdprobe");
    let mut run = lan.start_other(
        Side::Client,
        "setpriv",
        &[&format!("--bounding-set={bounding_set}"), program, "caps", "-i", CLIENT_LINK, "--json"],
    );
    run.finish();
    assert_eq!(run.code(), Some(0), "{}", run.all_output());
    let report: Value = serde_json::from_str(&run.stdout()).expect("one JSON object");
    report["privileges"]["value"].clone()
}

#[test]
fn each_capability_is_told_with_what_it_is_for_and_whether_it_is_there() {
    let lan = Lan::new(1);
    for lacking in ["net_admin", "net_raw", "bpf", "perfmon", "ipc_lock", "net_bind_service", "sys_nice"] {
        // CAP_SYS_ADMIN stands for the two of BPF.
        let told = privileges(&lan, &format!("-sys_admin,-{lacking}"));
        for (name, told) in told.as_object().expect("capabilities by name") {
            assert_eq!(told["has"], *name != format!("cap_{lacking}"), "without {lacking}: {name}");
        }
    }
    let start = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let words = |told: &Value| told["cap_net_bind_service"]["for"].as_str().unwrap_or_default().to_owned();
    assert!(words(&privileges(&lan, "-all")).contains("from 1024 up"));
    lan.namespace(Side::Client).run(|| std::fs::write(start, "319").expect("it is the namespace's own"));
    assert!(words(&privileges(&lan, "-all")).starts_with("Not needed for port 319: ports from 319 up"));
}

#[test]
fn an_interface_that_does_not_exist_is_an_error() {
    let lan = Lan::new(1);
    for more in [&[][..], &["--json"]] {
        let run = lan.run(Side::Client, &[&["caps", "--interface", "eth7"], more].concat());
        assert_eq!((run.code(), run.stdout().as_str()), (Some(1), ""));
        let expected = format!("xdprobe: there is no interface \"eth7\": choose one of lo, {CLIENT_LINK}\n");
        assert_eq!(run.stderr(), expected);
    }
}
