//! What was found, in words: for each thing its value, how it was found out, and what it means for the user.
#![forbid(unsafe_code)]

use super::advice::{self, Hardware};
use super::{Fact, Findings, Group, IdleState};
use crate::net::hwtstamp::{RxFilter, StampingError, TxType};
use crate::net::netdev::{XDP_ACT_XSK_ZEROCOPY, XSK_TX_TIMESTAMP, XdpFeatures};
use crate::net::privilege::{Capability, XDP_PATH, names, setcap};
use crate::net::tsinfo::TsInfo;
use crate::net::tuning::Coalescing;
use crate::path::xdp::{Reason, Refusal};
use crate::wire::MAX_IP_LEN;
use crate::wire::ptp::UDP_PORT;
use serde_json::{Map, Value, json};

/// What a CPU may take to wake up, in microseconds, before it is worth a word.
const SLOW_WAKE_UP_US: u32 = 10;
/// What `/dev/cpu_dma_latency` says where nobody asks for anything: `PM_QOS_CPU_LATENCY_DEFAULT_VALUE` of
/// `linux/pm_qos.h`, 2000 s.
const NO_LATENCY_LIMIT_US: i32 = 2_000_000_000;
/// Offloads that hold packets back or change what an XDP program sees, by the kernel's names, with what each does.
const OFFLOADS: [(&str, &str); 6] = [
    ("rx-gro", "what the kernel path receives goes through GRO first (XDP runs before it)"),
    ("rx-gro-hw", "the card merges packets, and some drivers refuse XDP then"),
    ("rx-lro", "the card merges packets, and most drivers refuse XDP then"),
    ("rx-gro-list", "GRO gathers UDP packets too"),
    ("rx-udp-gro-forwarding", "GRO gathers UDP packets too"),
    ("rx-vlan-hw-parse", "the VLAN tag is taken off, so that XDP programs do not see it"),
];

/// A fact's value, before it has a name.
struct Told {
    text: String,
    value: Value,
    is_known: bool,
    meaning: String,
}

impl Told {
    fn known(text: impl Into<String>, value: Value, meaning: impl Into<String>) -> Self {
        Self { text: text.into(), value, is_known: true, meaning: meaning.into() }
    }

    /// Where the kernel has no answer: why.
    fn unknown(why: impl Into<String>) -> Self {
        Self { text: "unknown".to_owned(), value: Value::Null, is_known: false, meaning: why.into() }
    }

    /// Where the kernel refused to answer.
    fn refused(answer: impl std::fmt::Display) -> Self {
        Self::unknown(format!("There was no answer: {answer}."))
    }

    fn named(self, key: &'static str, name: &'static str, found_by: &'static str) -> Fact {
        let Self { text, value, is_known, meaning } = self;
        Fact { key, name, text, value, is_known, found_by, meaning }
    }
}

pub(super) fn groups(found: &Findings) -> Vec<Group> {
    vec![
        Group { heading: "Interface", facts: vec![driver(found), state(found), queues(found)] },
        Group {
            heading: "Time stamps",
            facts: vec![
                phc(found),
                transmit(found),
                receive(found),
                stamping(found),
                rx_metadata(found),
                tx_metadata(found),
            ],
        },
        Group {
            heading: "XDP and AF_XDP",
            facts: vec![native(found), zero_copy(found), attached(found), trial_load(found), bound_load(found)],
        },
        Group {
            heading: "Latency",
            facts: vec![
                busy_polling(found),
                idle_states(&found.idle_states),
                latency_limit(found),
                coalescing(found),
                offloads(found),
            ],
        },
        Group { heading: "Privileges", facts: vec![privileges(found)] },
    ]
}

fn driver(found: &Findings) -> Fact {
    let told = match &found.driver {
        None => Told::known("none", Value::Null, "The interface is the kernel's own, without a card."),
        Some(driver) => {
            let parts = [("version", &driver.version), ("firmware", &driver.firmware), ("at", &driver.bus)];
            let parts = parts.iter().filter(|(_, part)| !part.is_empty() && *part != "N/A");
            let parts: Vec<String> = parts.map(|(what, part)| format!(", {what} {part}")).collect();
            let value = json!({
                "name": driver.name, "version": driver.version, "firmware": driver.firmware, "bus": driver.bus,
            });
            let meaning = match driver.name.as_str() {
                "igb" => "It takes the carrier down for seconds when an XDP program is attached: xdprobe waits for it.",
                "veth" => "There is no card, no wire and no interrupt: what is measured is the kernel.",
                _ => "It decides what is stamped and what XDP can do: name it with every result.",
            };
            Told::known(format!("{}{}", driver.name, parts.concat()), value, meaning)
        }
    };
    told.named("driver", "driver", "ioctl SIOCETHTOOL, ETHTOOL_GDRVINFO")
}

fn state(found: &Findings) -> Fact {
    let interface = &found.interface;
    let (name, mtu) = (&interface.name, interface.mtu);
    let address = interface.address.map_or_else(|| "no IPv4 address".to_owned(), |address| address.to_string());
    let mut meaning = if mtu >= MAX_IP_LEN.into() {
        format!("Pings and pongs of every size, up to {MAX_IP_LEN} bytes, fit into one frame.")
    } else {
        format!("Pings and pongs of up to {mtu} bytes with the IP header fit into one frame.")
    };
    if !interface.is_up {
        meaning += &format!(" It must be up: ip link set dev {name} up.");
    }
    if interface.address.is_none() {
        meaning += " It needs an IPv4 address.";
    }
    let text = format!("{}, {address}, MTU {mtu}", if interface.is_up { "up" } else { "down" });
    let value = json!({ "is_up": interface.is_up, "address": interface.address, "mtu": mtu });
    Told::known(text, value, meaning).named("state", "state", "rtnetlink, RTM_GETLINK and RTM_GETADDR")
}

fn queues(found: &Findings) -> Fact {
    let queues = found.interface.rx_queues;
    let meaning = match queues {
        1 => "One AF_XDP socket receives everything.".to_owned(),
        _ => format!(
            "The xdp path opens an AF_XDP socket for each. One peer's packets come in on one of them, which a smaller \
             --queue list can name; ethtool -L {} combined 1 leaves only one.",
            found.interface.name
        ),
    };
    let found_by = "ioctl SIOCETHTOOL, ETHTOOL_GCHANNELS; else rtnetlink";
    Told::known(queues.to_string(), json!(queues), meaning).named("rx_queues", "receive queues", found_by)
}

/// ethtool's netlink, which is what the three answers about stamps come from.
const TSINFO: &str = "ethtool netlink, TSINFO_GET";
/// What is said where it does not answer.
const OLD_TSINFO: &str = "The kernel or the driver does not say it (Linux 5.9 does).";

fn phc(found: &Findings) -> Fact {
    let told = match (&found.phc, &found.stamps) {
        (Some((device, answer)), _) => {
            let device = device.display().to_string();
            let meaning = match answer {
                Ok(()) => {
                    "Hardware stamps are of this clock; xdprobe compares it with the system's once a second.".to_owned()
                }
                Err(answer) => format!("Hardware stamps are of this clock, and it must be readable: {answer}."),
            };
            let value = json!({ "device": device, "is_readable": answer.is_ok() });
            Told::known(device, value, meaning)
        }
        (None, Ok(Some(_))) => Told::known("none", Value::Null, "No hardware stamps: there is no clock for them."),
        (None, Ok(None)) => Told::unknown(OLD_TSINFO),
        (None, Err(answer)) => Told::refused(answer),
    };
    told.named("phc", "card's clock", TSINFO)
}

fn transmit(found: &Findings) -> Fact {
    let told = stamps(found, |info| {
        let types = info.tx_types.iter().map(TxType::to_string).collect();
        let meaning = match (info.hardware_tx() && info.tx_types.contains(&TxType::On), info.software_tx()) {
            (true, true) => "The card stamps what it is asked to, and the kernel does.",
            (true, false) => "The card stamps what it is asked to; the driver does not let the kernel stamp.",
            (false, true) => {
                "The kernel stamps what it hands to the driver (--timestamps software), the card does not."
            }
            (false, false) => "Only this program can stamp what is sent: --timestamps application.",
        };
        (types, info.software_tx(), meaning)
    });
    told.named("tx_stamps", "stamps sent", TSINFO)
}

fn receive(found: &Findings) -> Fact {
    let told = stamps(found, |info| {
        let filters = info.rx_filters.iter().map(RxFilter::to_string).collect();
        let has = |filter| info.hardware_rx() && info.rx_filters.contains(&filter);
        let meaning = if has(RxFilter::All) {
            "The card can stamp every packet."
        } else if has(RxFilter::PtpV2Event) {
            "The card stamps PTP packets only: probes that are to be stamped travel as such (--ptp)."
        } else if info.software_rx() {
            "The kernel stamps what comes in (--timestamps software), the card does not."
        } else {
            "Only this program can stamp what comes in: --timestamps application."
        };
        (filters, info.software_rx(), meaning)
    });
    told.named("rx_stamps", "stamps received", TSINFO)
}

fn stamps(found: &Findings, describe: impl FnOnce(&TsInfo) -> (Vec<String>, bool, &'static str)) -> Told {
    match &found.stamps {
        Ok(Some(info)) => {
            let (card, kernel, meaning) = describe(info);
            let shown = if card.is_empty() { "nothing".to_owned() } else { card.join(", ") };
            let text = format!("card: {shown}; kernel: {}", if kernel { "yes" } else { "no" });
            Told::known(text, json!({ "hardware": card, "software": kernel }), meaning)
        }
        Ok(None) => Told::unknown(OLD_TSINFO),
        Err(answer) => Told::refused(answer),
    }
}

fn stamping(found: &Findings) -> Fact {
    let told = match &found.stamping {
        Ok(config) => {
            let meaning = match (config.tx, config.rx) {
                (TxType::Off, RxFilter::None) => {
                    "With --timestamps hardware xdprobe switches it on for as long as it runs."
                }
                _ => {
                    "Somebody has switched it on (ptp4l, chronyd, or a run that was killed): xdprobe adds what it needs, and \
                     restores this at its end."
                }
            };
            let value = json!({ "tx_type": config.tx.to_string(), "rx_filter": config.rx.to_string() });
            Told::known(config.to_string(), value, meaning)
        }
        Err(StampingError::NoHardware { .. }) => {
            let meaning = if found.stamps.iter().flatten().any(TsInfo::hardware_tx) {
                "The driver does not say how stamping is set: as that could not be restored, xdprobe does not switch it on."
            } else {
                "The driver has no hardware stamps to switch on."
            };
            Told::known("none", Value::Null, meaning)
        }
        Err(answer) => Told::refused(answer),
    };
    told.named("stamping", "stamping now", "ioctl SIOCGHWTSTAMP")
}

/// The netdev family, which is what the answers about XDP come from.
const NETDEV: &str = "netdev netlink, DEV_GET";

fn rx_metadata(found: &Findings) -> Fact {
    let has_stamp = advice::receive_stamp_kfunc(found);
    let else_know =
        if has_stamp == Some(true) { " Of this driver it is known that it gives receive stamps." } else { "" };
    let names = features(found, XdpFeatures::rx_metadata_names, "6.7", else_know);
    let meaning = match (has_stamp, advice::hardware(found)) {
        (Some(true), Hardware::None(_)) => {
            "The driver would hand the card's receive stamp to an XDP program, but there is none to hand: it says 0, \
             which xdprobe takes for no stamp."
        }
        (Some(true), _) => "AF_XDP gets the card's receive stamps (bpf_xdp_metadata_rx_timestamp).",
        (_, Hardware::None(_)) => "Packets received over AF_XDP are stamped at the XDP hook, or by this program.",
        _ => "AF_XDP does not get the card's receive stamps: packets received that way are stamped at the XDP hook.",
    };
    names(meaning).named("rx_metadata", "XDP metadata", NETDEV)
}

fn tx_metadata(found: &Findings) -> Fact {
    let names = features(found, XdpFeatures::xsk_names, "6.8", "");
    let bits = found.xdp.as_ref().ok().and_then(|features| features.xsk).unwrap_or_default();
    let meaning = if bits & XSK_TX_TIMESTAMP != 0 {
        "The driver can stamp what AF_XDP sends. xdprobe does not use it: transmit stamps come by a packet socket beside \
         AF_XDP."
    } else {
        "AF_XDP brings no transmit stamps back: they come by a packet socket beside it."
    };
    names(meaning).named("tx_metadata", "AF_XDP metadata", NETDEV)
}

fn native(found: &Findings) -> Fact {
    let names = features(found, XdpFeatures::xdp_names, "6.3", " --xdp-mode auto finds out.");
    let meaning = match advice::native_xdp(found) {
        _ if found.interface.is_loopback => {
            "Loopback has no XDP of its own, and the xdp path does not run over it: use --path kernel."
        }
        Some(true) => "The driver runs XDP programs itself (native).",
        _ => {
            "The driver has no XDP: the kernel runs the program (generic), after it has allocated for the packet, which is \
             slower."
        }
    };
    names(meaning).named("xdp", "XDP", NETDEV)
}

/// A list of names that the netdev family gives since a release of Linux, with what it means yet to be said.
fn features<'a>(
    found: &'a Findings,
    names: impl Fn(&XdpFeatures) -> Option<Vec<String>>,
    since: &'a str,
    else_do: &'a str,
) -> impl FnOnce(&str) -> Told + 'a {
    let names = found.xdp.as_ref().map(names);
    move |meaning| match names {
        Ok(Some(names)) if names.is_empty() => Told::known("none", json!(names), meaning),
        Ok(Some(names)) => Told::known(names.join(", "), json!(names), meaning),
        Ok(None) => Told::unknown(format!("The kernel does not say it (Linux {since} does).{else_do}")),
        Err(answer) => Told::refused(answer),
    }
}

fn zero_copy(found: &Findings) -> Fact {
    let bits = found.xdp.as_ref().map(|features| features.xdp);
    let told = match bits {
        Ok(Some(bits)) if bits & XDP_ACT_XSK_ZEROCOPY != 0 => {
            let buffers = found.xdp.as_ref().ok().and_then(|features| features.zero_copy_max_segments);
            let text = match buffers {
                Some(buffers) if buffers > 1 => format!("yes, up to {buffers} buffers a frame"),
                _ => "yes".to_owned(),
            };
            let meaning = "The card reads and writes AF_XDP's memory itself, which --zero-copy auto makes use of. Some cards take \
                           the carrier down when a socket is bound so.";
            Told::known(text, json!({ "has": true, "max_buffers": buffers }), meaning)
        }
        Ok(Some(_)) => {
            let meaning = "The kernel copies each packet between driver and AF_XDP's memory.";
            Told::known("no", json!({ "has": false, "max_buffers": null }), meaning)
        }
        Ok(None) => Told::unknown("The kernel does not say it (Linux 6.3 does). --zero-copy auto finds out."),
        Err(answer) => Told::refused(answer),
    };
    told.named("zero_copy", "zero-copy", NETDEV)
}

fn attached(found: &Findings) -> Fact {
    let told = match &found.attached {
        Ok(None) => Told::known("none", Value::Null, "Nothing is in the way of xdprobe's."),
        Ok(Some(program)) => {
            let (interface, keyword) = (&found.interface.name, program.keyword);
            let text = format!("{} ({}), {keyword}", program.id, program.name.as_deref().unwrap_or("name unknown"));
            let value = json!({ "id": program.id, "name": program.name, "mode": keyword });
            let meaning = format!(
                "xdprobe does not replace it: detach it (ip link set dev {interface} {keyword} off, or end the process that \
                 holds its link), or use --path kernel."
            );
            Told::known(text, value, meaning)
        }
        Err(answer) => Told::refused(answer),
    };
    told.named("attached_program", "program attached", "libbpf, bpf_xdp_query")
}

fn trial_load(found: &Findings) -> Fact {
    let told = loaded(found, &found.trial_load, "The xdp path's program runs in this kernel.");
    told.named("trial_load", "trial load", "loaded, not attached, unloaded")
}

fn bound_load(found: &Findings) -> Fact {
    let meaning = match advice::receive_stamp_kfunc(found) {
        Some(false) => "The program can be bound to the device, but the driver has no card's stamps to give to it.",
        _ => "The program can be bound to the device and ask its driver for the card's stamps.",
    };
    let told = match &found.bound_load {
        Err(Refusal { answer, reason }) if found.trial_load.is_ok() && *reason != Reason::Privilege => {
            let meaning = format!("{} Over AF_XDP the XDP hook's stamps are left.", reason.sentence());
            Told::known("refused", json!({ "is_accepted": false, "answer": answer }), meaning)
        }
        answer => loaded(found, answer, meaning),
    };
    told.named("device_bound_load", "device-bound load", "loaded for this device, not attached, unloaded")
}

fn loaded(found: &Findings, answer: &Result<(), Refusal>, meaning: &'static str) -> Told {
    match answer {
        Ok(()) => Told::known("accepted", json!({ "is_accepted": true }), meaning),
        Err(Refusal { answer, .. }) => {
            let why = match names(&advice::lacking(found, &XDP_PATH)) {
                names if names.is_empty() => names,
                names => format!("This process lacks {names}. "),
            };
            let meaning = format!("{why}The kernel's answer: {answer}.");
            Told::known("refused", json!({ "is_accepted": false, "answer": answer }), meaning)
        }
    }
}

fn busy_polling(found: &Findings) -> Fact {
    let told = match &found.queues {
        Ok(Some(queues)) if queues.is_empty() => Told::known(
            "no queues",
            json!([]),
            "The kernel lists the queues of interfaces that are up and have a driver: there is nothing to poll.",
        ),
        Ok(Some(queues)) => {
            let linked = queues.iter().filter(|queue| queue.napi_id.is_some()).count();
            let shown = queues.iter().map(|queue| {
                let id = queue.napi_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
                format!("queue {}: {id}", queue.queue)
            });
            let text = format!("NAPI of {}", shown.collect::<Vec<_>>().join(", "));
            let value: Vec<Value> =
                queues.iter().map(|queue| json!({ "queue": queue.queue, "napi_id": queue.napi_id })).collect();
            let meaning = if linked == queues.len() {
                "Each queue is linked to a NAPI instance, which --busypoll can poll."
            } else if linked > 0 {
                "Only queues that are linked to a NAPI instance can be polled over AF_XDP with --busypoll."
            } else {
                "No queue is linked to a NAPI instance: over AF_XDP --busypoll has nothing to poll (from Linux 6.13 on, which \
                 goes by that link)."
            };
            Told::known(text, json!(value), meaning)
        }
        Ok(None) => Told::unknown("The kernel does not say it (Linux 6.7 does). Try --busypoll."),
        Err(answer) => Told::refused(answer),
    };
    // A bound socket's SO_INCOMING_NAPI_ID says the same, but binding one changes the machine.
    told.named("busy_polling", "busy polling", "netdev netlink, QUEUE_GET")
}

fn idle_states(states: &[IdleState]) -> Fact {
    let shown: Vec<String> = states
        .iter()
        .map(|state| format!("{} {} µs{}", state.name, state.latency_us, if state.is_disabled { " (off)" } else { "" }))
        .collect();
    let value: Vec<Value> = states
        .iter()
        .map(|state| json!({ "name": state.name, "latency_us": state.latency_us, "is_disabled": state.is_disabled }))
        .collect();
    let deepest = states.iter().filter(|state| !state.is_disabled).map(|state| state.latency_us).max();
    let meaning = match deepest {
        None => "The kernel does not choose how deep this machine's CPUs sleep, or does not say.".to_owned(),
        Some(us) if us < SLOW_WAKE_UP_US => "Waking a CPU up costs little.".to_owned(),
        Some(us) => format!(
            "A CPU that sleeps deepest takes {us} µs to wake up, which a --timer sleep pays for: use --timer busy and --cpu, \
             or keep the CPUs awake (--cpu-latency 0)."
        ),
    };
    let text = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
    Told::known(text, json!(value), meaning).named("idle_states", "C-states", "/sys/devices/system/cpu/cpu0/cpuidle")
}

fn latency_limit(found: &Findings) -> Fact {
    let told = match found.latency_limit_us {
        Ok(us) if us >= NO_LATENCY_LIMIT_US => {
            Told::known("none", Value::Null, "Nobody asks for CPUs that wake up quickly.")
        }
        Ok(us) => Told::known(format!("{us} µs"), json!(us), "Somebody asks for CPUs that wake up within that."),
        Err(ref answer) => Told::refused(answer),
    };
    told.named("cpu_latency_limit_us", "wake-up limit", "/dev/cpu_dma_latency")
}

fn coalescing(found: &Findings) -> Fact {
    let told = match &found.coalescing {
        Ok(Some(settings)) => {
            let Coalescing { rx_usecs, rx_max_frames, tx_usecs, tx_max_frames, adaptive_rx, adaptive_tx } = *settings;
            let number = |name: &str, number: Option<u32>| number.map(|number| format!("{name} {number}"));
            let switch =
                |name: &str, on: Option<bool>| on.map(|on| format!("{name} {}", if on { "on" } else { "off" }));
            let shown: Vec<String> = [
                number("rx-usecs", rx_usecs),
                number("rx-frames", rx_max_frames),
                number("tx-usecs", tx_usecs),
                number("tx-frames", tx_max_frames),
                switch("adaptive-rx", adaptive_rx),
                switch("adaptive-tx", adaptive_tx),
            ]
            .into_iter()
            .flatten()
            .collect();
            let wanted: Vec<&str> = [
                (adaptive_rx == Some(true), "adaptive-rx off"),
                (adaptive_tx == Some(true), "adaptive-tx off"),
                (rx_usecs.is_some_and(|us| us > 0), "rx-usecs 0"),
                (tx_usecs.is_some_and(|us| us > 0), "tx-usecs 0"),
            ]
            .into_iter()
            .filter_map(|(is_wanted, flag)| is_wanted.then_some(flag))
            .collect();
            let meaning = if wanted.is_empty() {
                "No interrupt waits for time to pass.".to_owned()
            } else {
                format!(
                    "Interrupts are held back, which packets and transmit stamps wait for unless the driver is polled: \
                     ethtool -C {} {}.",
                    found.interface.name,
                    wanted.join(" ")
                )
            };
            let value = json!({
                "rx_usecs": rx_usecs, "rx_max_frames": rx_max_frames, "tx_usecs": tx_usecs,
                "tx_max_frames": tx_max_frames, "adaptive_rx": adaptive_rx, "adaptive_tx": adaptive_tx,
            });
            Told::known(if shown.is_empty() { "no settings".to_owned() } else { shown.join(", ") }, value, meaning)
        }
        Ok(None) => Told::known("none", Value::Null, "The driver does not hold interrupts back, or does not say."),
        Err(answer) => Told::refused(answer),
    };
    told.named("coalescing", "coalescing", "ethtool netlink, COALESCE_GET")
}

fn offloads(found: &Findings) -> Fact {
    let told = match &found.features {
        Ok(Some(active)) => {
            let costly: Vec<_> =
                OFFLOADS.iter().filter(|(name, _)| active.iter().any(|active| active == name)).collect();
            let names: Vec<&str> = costly.iter().map(|(name, _)| *name).collect();
            if costly.is_empty() {
                Told::known("none", json!(names), "None that holds packets back or hides a VLAN tag.")
            } else {
                let what: Vec<String> = costly.iter().map(|(name, what)| format!("{name}: {what}.")).collect();
                let flags: Vec<String> = names.iter().map(|name| format!("{name} off")).collect();
                let meaning =
                    format!("{} Off with ethtool -K {} {}.", what.join(" "), found.interface.name, flags.join(" "));
                Told::known(names.join(", "), json!(names), meaning)
            }
        }
        Ok(None) => Told::unknown("The kernel does not say it (Linux 5.9 does)."),
        Err(answer) => Told::refused(answer),
    };
    told.named("offloads", "costly offloads", "ethtool netlink, FEATURES_GET")
}

fn privileges(found: &Findings) -> Fact {
    let best = advice::best(found);
    let needed = advice::needed(found, best.path, best.timestamps);
    let lacking = advice::lacking(found, &needed);
    let text = match names(&lacking) {
        names if names.is_empty() => "all that the command line below needs".to_owned(),
        names => format!("lacks {names} for the command line below"),
    };
    let mut value = Map::new();
    let mut meaning = Vec::new();
    for &(capability, has) in &found.privileges {
        let (name, what_for) = (capability.as_str(), what_for(found, capability));
        let key = name.to_lowercase();
        value.insert(key, json!({ "has": has, "is_needed": needed.contains(&capability), "for": what_for }));
        meaning.push(format!("{name}: {}. {what_for}", if has { "has it" } else { "lacks it" }));
    }
    meaning.push(if lacking.is_empty() {
        "Nothing is lacking.".to_owned()
    } else {
        format!("What is lacking there comes with root, or with setcap {} on the program.", setcap(&needed))
    });
    let told = Told::known(text, Value::Object(value), meaning.join("\n"));
    told.named(
        "privileges",
        "capabilities",
        "/proc/thread-self/status, CapEff; RLIMIT_MEMLOCK; ip_unprivileged_port_start",
    )
}

/// What needs a capability, on this interface.
fn what_for(found: &Findings, capability: Capability) -> String {
    match capability {
        Capability::NetAdmin => "--path xdp: loading an XDP program, resolving neighbours, --busypoll. On both paths \
                                 --timestamps hardware: switching the card's stamping on."
            .to_owned(),
        Capability::NetRaw => {
            "--path xdp: AF_XDP sockets and the packet socket beside them. On both paths --ptp l2.".to_owned()
        }
        Capability::Bpf => "--path xdp: BPF maps and programs.".to_owned(),
        Capability::Perfmon => {
            "--path xdp: the kernel's verifier asks it of a program that finds UDP behind IPv4 options.".to_owned()
        }
        Capability::IpcLock => {
            let (needed, queues) = (advice::locked_memory(found) / 1024, found.interface.rx_queues);
            let sockets = format!("--path xdp: AF_XDP on {queues} queue{} locks {needed} KiB", plural(queues));
            match found.locked_memory_limit {
                Some(limit) if advice::exceeds_locked_memory(found) => format!(
                    "{sockets}, and without the capability {} KiB may be locked (ulimit -l, which can be raised instead). So \
                     does --lock-memory.",
                    limit / 1024
                ),
                Some(limit) => format!(
                    "Not needed: {sockets}, and {} KiB may be locked (ulimit -l). --lock-memory takes it, or a larger limit.",
                    limit / 1024
                ),
                None => format!("Not needed: {sockets}, and there is no limit (ulimit -l)."),
            }
        }
        Capability::NetBindService => {
            let first = found.first_unprivileged_port;
            let whole = "--ptp udp without driver stamps for XDP: UDP port 319. --server: a --port as low.";
            match first > UDP_PORT {
                true => format!(
                    "{whole} Ports from {first} up need nothing (sysctl net.ipv4.ip_unprivileged_port_start, which can be \
                     lowered instead)."
                ),
                false => format!("Not needed for port 319: ports from {first} up need nothing here."),
            }
        }
        Capability::SysNice => {
            "--realtime, where ulimit -r does not allow it: a real-time priority for the thread that sends and receives."
                .to_owned()
        }
        Capability::SysAdmin => "Nothing.".to_owned(),
    }
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}
