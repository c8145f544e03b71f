//! The report for cards that this machine need not have.

use super::collect::PRIVILEGES;
use super::*;
use crate::cli::{Parsed, parse};
use crate::net::hwtstamp::{RxFilter, TxType};
use crate::net::kernel_version::KernelVersion;
use crate::net::netdev::{RX_METADATA_TIMESTAMP, XDP_ACT_BASIC};
use crate::net::privilege::Capability;
use crate::path::xdp::Reason;
use crate::wire::frame::MacAddr;
use std::net::Ipv4Addr;

/// All eight bits of hardware and software stamping that cards have.
const HARDWARE_AND_SOFTWARE: u32 = 0x5f;
/// Software stamping in both directions.
const SOFTWARE: u32 = 0x1a;

/// Something like a veth.
fn without_card() -> Findings {
    Findings {
        interface: Interface {
            name: "eth0".to_owned(),
            index: 2,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            is_ethernet: true,
            is_loopback: false,
            is_up: true,
            address: Some(Ipv4Addr::new(10, 0, 0, 1)),
            driver: Some("veth".to_owned()),
            rx_queues: 1,
        },
        driver: Some(DriverFacts {
            name: "veth".to_owned(),
            version: "1.0".to_owned(),
            firmware: String::new(),
            bus: String::new(),
        }),
        kernel: "6.12.0".to_owned(),
        stamps: Ok(Some(TsInfo { timestamping: SOFTWARE, ..TsInfo::default() })),
        phc: None,
        stamping: Err(StampingError::NoHardware {
            interface: "eth0".to_owned(),
            what: "x",
            answer: nix::errno::Errno::EOPNOTSUPP,
        }),
        xdp: Ok(XdpFeatures {
            xdp: Some(XDP_ACT_BASIC),
            zero_copy_max_segments: None,
            rx_metadata: Some(RX_METADATA_TIMESTAMP),
            xsk: Some(0),
        }),
        attached: Ok(None),
        trial_load: Ok(()),
        bound_load: Ok(()),
        queues: Ok(Some(vec![RxQueue { queue: 0, napi_id: None }])),
        idle_states: vec![],
        latency_limit_us: Ok(2_000_000_000),
        coalescing: Ok(None),
        features: Ok(Some(vec![])),
        privileges: PRIVILEGES.map(|capability| (capability, true)).to_vec(),
        locked_memory_limit: Some(8 << 20),
        first_unprivileged_port: 1024,
    }
}

/// A card with a clock, these receive filters, and the receive stamp kfunc or not.
fn card(rx_filters: &[RxFilter], has_kfunc: bool) -> Findings {
    let rx_metadata = Some(if has_kfunc { RX_METADATA_TIMESTAMP } else { 0 });
    let found = without_card();
    Findings {
        stamps: Ok(Some(TsInfo {
            timestamping: HARDWARE_AND_SOFTWARE,
            tx_types: vec![TxType::Off, TxType::On],
            rx_filters: rx_filters.to_vec(),
            phc: Some(0),
        })),
        phc: Some((PathBuf::from("/dev/ptp0"), Ok(()))),
        stamping: Ok(Config { flags: 0, tx: TxType::Off, rx: RxFilter::None }),
        xdp: Ok(XdpFeatures { rx_metadata, ..found.xdp.clone().unwrap() }),
        ..found
    }
}

fn refusal(reason: Reason) -> Refusal {
    Refusal { answer: "no".to_owned(), reason }
}

/// What the report says of one thing.
fn meaning(found: &Findings, key: &str) -> String {
    let groups = facts::groups(found);
    groups.into_iter().flat_map(|group| group.facts).find(|fact| fact.key == key).unwrap().meaning
}

fn text(found: &Findings) -> String {
    as_text(found, &facts::groups(found), &advice::best(found))
}

fn client(found: &Findings) -> String {
    advice::best(found).client
}

const ALL: [RxFilter; 2] = [RxFilter::None, RxFilter::All];
const PTP: [RxFilter; 4] = [RxFilter::None, RxFilter::PtpV1L4Sync, RxFilter::PtpV1L4DelayReq, RxFilter::PtpV2Event];

#[test]
fn the_best_command_line_is_what_the_card_can_do() {
    let of = |rest: &str| format!("xdprobe --client --interface eth0 --timestamps {rest} HOST");
    assert_eq!(client(&card(&ALL, true)), of("hardware"));
    assert_eq!(client(&card(&ALL, false)), of("hardware --path kernel"));
    assert_eq!(client(&card(&PTP, false)), of("hardware"));
    assert_eq!(client(&card(&[RxFilter::None], false)), of("software"));
    assert_eq!(client(&without_card()), of("software"));
    let unrestorable = Findings { stamping: without_card().stamping, ..card(&ALL, true) };
    assert_eq!(client(&unrestorable), of("software"));
    let silent = TsInfo { timestamping: 0x18, ..TsInfo::default() };
    assert_eq!(client(&Findings { stamps: Ok(Some(silent)), ..without_card() }), of("application"));
    assert_eq!(client(&Findings { stamps: Ok(None), ..without_card() }), of("software"));
}

#[test]
fn a_kernel_that_does_not_tell_of_receive_stamps_is_known_by_its_drivers() {
    let of = |kernel: &str, name: &str| {
        let found = card(&ALL, true);
        let driver = DriverFacts { name: name.to_owned(), ..found.driver.clone().unwrap() };
        let xdp = Ok(XdpFeatures { rx_metadata: None, ..found.xdp.clone().unwrap() });
        Findings { kernel: kernel.to_owned(), driver: Some(driver), xdp, ..found }
    };
    let path = |found: &Findings| advice::best(found).path;
    assert_eq!((path(&of("6.6.1", "mlx5_core")), path(&of("6.6.1", "ice"))), ("xdp", "kernel"));
    // igc has them since 6.5.
    assert_eq!((path(&of("6.5.0-14", "igc")), path(&of("6.4.9", "igc"))), ("xdp", "kernel"));
    assert!(meaning(&of("6.6.1", "mlx5_core"), "rx_metadata").ends_with("known that it gives receive stamps."));
}

#[test]
fn a_program_that_is_not_bound_is_told_with_whose_affair_that_is() {
    let said =
        |reason| meaning(&Findings { bound_load: Err(refusal(reason)), ..card(&ALL, true) }, "device_bound_load");
    let old = KernelVersion { major: 6, minor: 1 };
    let left = "Over AF_XDP the XDP hook's stamps are left.";
    for (reason, words) in [
        (Reason::OldKernel(old), "Linux 6.1 binds no program"),
        (Reason::NoDriverXdp, "The driver runs no XDP programs"),
        (Reason::Untold, "The kernel does not bind"),
    ] {
        let said = said(reason);
        assert!(said.starts_with(words) && said.ends_with(left), "{said}");
    }
    assert!(said(Reason::Privilege).contains("The kernel's answer: no."));
}

#[test]
fn what_stands_in_the_way_of_xdp_leads_to_the_kernel_path() {
    let attached = AttachedProgram { id: 51, name: Some("cil_xdp_entry".to_owned()), keyword: "xdpdrv" };
    let found = Findings { attached: Ok(Some(attached)), ..card(&ALL, true) };
    assert_eq!(client(&found), "xdprobe --client --interface eth0 --timestamps hardware --path kernel HOST");
    let said = text(&found);
    assert!(said.contains("51 (cil_xdp_entry), xdpdrv") && said.contains("ip link set dev eth0 xdpdrv off"), "{said}");
    let refused = Findings { trial_load: Err(refusal(Reason::Untold)), ..without_card() };
    let best = advice::best(&refused);
    assert_eq!((best.timestamps, best.path), ("software", "kernel"));
    assert!(
        best.reason.ends_with("It has to be the kernel path, as the XDP program does not load."),
        "{}",
        best.reason
    );
    let mut loopback = without_card();
    loopback.interface.is_loopback = true;
    assert_eq!(advice::best(&loopback).path, "kernel");
}

#[test]
fn who_lacks_privileges_is_told_which_and_to_use_sudo() {
    let found = Findings {
        privileges: PRIVILEGES.map(|capability| (capability, capability == Capability::NetRaw)).to_vec(),
        trial_load: Err(refusal(Reason::Privilege)),
        bound_load: Err(refusal(Reason::Privilege)),
        ..without_card()
    };
    assert_eq!(client(&found), "sudo xdprobe --client --interface eth0 --timestamps software HOST");
    let said = text(&found);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "lacks CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON and CAP_IPC_LOCK for the command line below",
        "CAP_NET_RAW: has it. --path xdp: AF_XDP sockets",
        "CAP_BPF: lacks it. --path xdp: BPF maps and programs.",
        "setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep on the program.",
        "This process lacks CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON.",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

/// What the report says that the best command line needs.
fn needed(found: &Findings) -> Vec<String> {
    let groups = facts::groups(found);
    let privileges = groups.iter().flat_map(|group| &group.facts).find(|fact| fact.key == "privileges").unwrap();
    let all = privileges.value.as_object().unwrap().iter();
    all.filter(|(_, told)| told["is_needed"] == true).map(|(name, _)| name.clone()).collect()
}

#[test]
fn what_is_needed_depends_on_card_limit_and_ports() {
    let xdp = ["cap_bpf", "cap_net_admin", "cap_net_raw", "cap_perfmon"];
    let roomy = |found| Findings { locked_memory_limit: None, ..found };
    assert_eq!(needed(&roomy(without_card())), xdp);
    // 6144 frames of 2048 bytes on each queue, to the byte.
    let limited = |limit| Findings { locked_memory_limit: Some(limit), ..without_card() };
    assert_eq!(needed(&limited(6144 * 2048)), xdp);
    assert_eq!(
        needed(&limited(6144 * 2048 - 1)),
        ["cap_bpf", "cap_ipc_lock", "cap_net_admin", "cap_net_raw", "cap_perfmon"]
    );
    assert!(text(&limited(8 << 20)).contains("locks 12288 KiB"));
    // The kernel path has the card's stamps, and switching them on is all that takes a privilege.
    assert_eq!(needed(&card(&ALL, false)), ["cap_net_admin"]);
    let ptp = roomy(card(&PTP, false));
    assert_eq!(needed(&ptp), ["cap_bpf", "cap_net_admin", "cap_net_bind_service", "cap_net_raw", "cap_perfmon"]);
    assert_eq!(needed(&Findings { first_unprivileged_port: 319, ..ptp.clone() }), xdp);
    assert_eq!(needed(&roomy(card(&PTP, true))), xdp, "such frames go to AF_XDP, and the port stays free");
    let lacking = PRIVILEGES.map(|capability| (capability, capability != Capability::NetBindService)).to_vec();
    let unprivileged = Findings { privileges: lacking, ..ptp };
    assert!(client(&unprivileged).starts_with("sudo "));
    assert!(!client(&Findings { first_unprivileged_port: 0, ..unprivileged }).starts_with("sudo "));
}

#[test]
fn every_command_line_is_a_right_one() {
    for found in [card(&ALL, true), card(&ALL, false), card(&PTP, false), without_card()] {
        let best = advice::best(&found);
        for line in [best.server, best.client] {
            assert!(matches!(parse(line.split(' ').map(Into::into)), Ok(Parsed::Run(_))), "{line}");
        }
    }
}

#[test]
fn a_kernel_that_does_not_answer_makes_nothing_up() {
    let refused = || "the kernel is busy".to_owned();
    let found = Findings {
        driver: None,
        stamps: Err(refused()),
        stamping: Err(StampingError::Busy { interface: "eth0".to_owned(), answer: nix::errno::Errno::EBUSY }),
        xdp: Ok(XdpFeatures::default()),
        attached: Err(refused()),
        queues: Ok(None),
        latency_limit_us: Err(refused()),
        coalescing: Err(refused()),
        features: Ok(None),
        ..without_card()
    };
    let groups = facts::groups(&found);
    let unknown: Vec<&str> =
        groups.iter().flat_map(|group| &group.facts).filter(|fact| !fact.is_known).map(|fact| fact.key).collect();
    assert_eq!(
        unknown,
        [
            "phc",
            "tx_stamps",
            "rx_stamps",
            "stamping",
            "rx_metadata",
            "tx_metadata",
            "xdp",
            "zero_copy",
            "attached_program",
            "busy_polling",
            "cpu_latency_limit_us",
            "coalescing",
            "offloads"
        ]
    );
    for fact in groups.iter().flat_map(|group| &group.facts).filter(|fact| !fact.is_known) {
        assert_eq!((fact.text.as_str(), &fact.value), ("unknown", &Value::Null), "{}", fact.key);
    }
}

#[test]
fn what_costs_latency_is_named_with_what_ends_it() {
    let found = Findings {
        coalescing: Ok(Some(Coalescing {
            rx_usecs: Some(3),
            tx_usecs: Some(0),
            adaptive_rx: Some(true),
            ..Coalescing::default()
        })),
        features: Ok(Some(vec!["rx-lro".to_owned(), "tx-scatter-gather".to_owned(), "rx-vlan-hw-parse".to_owned()])),
        idle_states: vec![IdleState { name: "C6".to_owned(), latency_us: 133, is_disabled: false }],
        ..without_card()
    };
    let said = text(&found).split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "ethtool -C eth0 adaptive-rx off rx-usecs 0.",
        "rx-usecs 3, tx-usecs 0, adaptive-rx on",
        "ethtool -K eth0 rx-lro off rx-vlan-hw-parse off.",
        "takes 133 µs to wake up",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn text_and_json_have_the_same_facts() {
    for found in [card(&PTP, false), without_card()] {
        let groups = facts::groups(&found);
        let said = text(&found);
        let json: Value = serde_json::from_str(&as_json(&found, &groups, &advice::best(&found))).unwrap();
        for fact in groups.iter().flat_map(|group| &group.facts) {
            assert!(said.contains(&format!("\n  {} ", fact.name)), "{}", fact.name);
            assert!(fact.name.chars().count() <= INDENT - 3, "{}", fact.name);
            assert!(fact.key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", fact.key);
            assert_eq!(json[fact.key]["value"], fact.value, "{}", fact.key);
            assert_eq!(json[fact.key]["meaning"], json!(fact.meaning));
            assert!(fact.meaning.ends_with('.') && !fact.found_by.is_empty(), "{}", fact.meaning);
        }
        assert_eq!(json["best_stamps"]["client"], json!(client(&found)));
        assert!(said.lines().all(|line| line.chars().count() <= COLUMNS && !line.ends_with(' ')), "{said}");
        assert!(said.ends_with(" HOST\n"), "{said}");
    }
}

#[test]
fn lines_break_between_words() {
    let mut text = String::new();
    wrap(&mut text, "  name    ", &"word ".repeat(40));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("  name    word word") && lines[1].starts_with("          word"), "{text}");
    assert_eq!(
        lines.iter().map(|line| line.split_whitespace().filter(|word| *word == "word").count()).sum::<usize>(),
        40
    );
}
