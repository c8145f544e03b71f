//! What the kernel says about interfaces, routes and neighbours, in network namespaces. Needs root.

#[path = "support/lan.rs"]
mod lan;

use lan::{A, B, ETH, Lan};
use std::net::Ipv4Addr;
use std::time::Duration;
use xdprobe::net::{self, Interface, NetError, Route};
use xdprobe::wire::frame::MacAddr;

const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const LONG: Duration = Duration::from_secs(10);

fn eth0() -> Interface {
    net::interface(ETH).unwrap()
}

fn message<T: std::fmt::Debug>(result: Result<T, NetError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn an_interface_is_described_as_the_kernel_has_it() {
    let lan = Lan::with(4, 1400);
    lan.a.ip(&["link", "set", "dev", ETH, "address", "02:00:00:00:00:aa"]);
    let found = lan.a.run(eth0);
    assert_eq!((found.name.as_str(), found.address), (ETH, Some(A)));
    assert_eq!((found.mac, found.mtu), (MacAddr([2, 0, 0, 0, 0, 0xaa]), 1400));
    assert_eq!((found.is_ethernet, found.is_loopback, found.is_up), (true, false, true));
    assert_eq!((found.driver.as_deref(), found.rx_queues), (Some("veth"), 4));
    assert_eq!(lan.b.run(eth0).rx_queues, 1);
}

#[test]
fn the_loopback_interface_is_described_too() {
    let lan = Lan::new();
    let found = lan.a.run(|| net::interface("lo").unwrap());
    assert_eq!((found.is_ethernet, found.is_loopback, found.rx_queues), (true, true, 1));
    assert_eq!((found.address, found.driver, found.mac), (Some(Ipv4Addr::LOCALHOST), None, MacAddr([0; 6])));
}

#[test]
fn an_interface_that_is_down_or_has_no_address_is_told_apart() {
    let lan = Lan::new();
    lan.a.ip(&["addr", "flush", "dev", ETH]);
    let found = lan.a.run(eth0);
    assert_eq!(found.address, None);
    assert!(found.require_up().is_ok());
    assert!(message(found.require_address()).contains("has no IPv4 address: give it one (ip addr add "));
    lan.a.ip(&["link", "set", "dev", ETH, "down"]);
    let found = lan.a.run(eth0);
    assert_eq!(message(found.require_up()), "the interface eth0 is down: bring it up (ip link set dev eth0 up)");
    let waited = lan.a.run(|| net::wait_for_carrier(&found, LONG, |_| (), || false));
    assert!(matches!(waited, Err(NetError::Down { .. })), "{waited:?}");
}

#[test]
fn the_primary_address_is_the_first_one() {
    let lan = Lan::new();
    lan.a.ip(&["addr", "add", "10.77.0.100/24", "dev", ETH]);
    lan.a.ip(&["addr", "add", "10.78.0.1/24", "dev", ETH]);
    assert_eq!(lan.a.run(eth0).address, Some(A));
}

#[test]
fn no_packet_may_come_from_this_machines_addresses_nor_from_the_last_ones_of_its_networks() {
    let lan = Lan::new();
    lan.a.ip(&["addr", "add", "10.78.0.1/30", "broadcast", "10.78.0.9", "dev", ETH]);
    lan.a.ip(&["addr", "add", "198.51.100.1/32", "dev", "lo"]);
    let martians = |name| {
        lan.a.run(|| {
            let mut found = net::martian_sources(&net::interface(name).unwrap()).unwrap();
            found.sort();
            found.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>()
        })
    };
    let broadcasts = ["10.77.0.255", "10.78.0.3", "10.78.0.9", "127.255.255.255"];
    let mut all = [&["10.77.0.1", "10.78.0.1", "127.0.0.1", "198.51.100.1"][..], &broadcasts].concat();
    all.sort_by_key(|address| address.parse::<Ipv4Addr>().unwrap());
    assert_eq!(martians(ETH), all);
    // Of a machine that is its own peer, by a cable.
    lan.a.run(|| std::fs::write(format!("/proc/sys/net/ipv4/conf/{ETH}/accept_local"), "1").unwrap());
    assert_eq!(martians(ETH), broadcasts);
    assert_eq!(martians("lo").len(), 8);
}

#[test]
fn an_interface_is_found_by_its_alternative_name() {
    let lan = Lan::new();
    lan.a.ip(&["link", "property", "add", "dev", ETH, "altname", "uplink"]);
    assert_eq!(lan.a.run(|| net::interface("uplink").unwrap().name), ETH);
}

#[test]
fn an_unknown_interface_is_answered_with_those_that_exist() {
    let lan = Lan::new();
    assert_eq!(lan.a.run(|| message(net::interface("eth7"))), "there is no interface \"eth7\": choose one of lo, eth0");
    assert_eq!(
        lan.a.run(|| message(net::interface("a-name-too-long-"))),
        "the interface name \"a-name-too-long-\" has 16 bytes, and Linux allows 1 to 15: choose one of lo, eth0"
    );
    assert!(matches!(lan.a.run(|| net::interface("")), Err(NetError::NotAName { .. })));
    assert!(matches!(lan.a.run(|| net::interface("eth\0")), Err(NetError::NotAName { .. })));
    assert!(matches!(lan.a.run(|| net::interface("fifteen-bytes-x")), Err(NetError::UnknownInterface { .. })));
}

#[test]
fn the_next_hop_is_the_peer_in_the_same_network_and_the_gateway_to_another() {
    let lan = Lan::new();
    lan.a.ip(&["route", "add", "192.0.2.0/24", "via", "10.77.0.2"]);
    lan.a.run(|| {
        assert_eq!(net::route(&eth0(), NOBODY).unwrap(), Route { source: A, next_hop: NOBODY });
        assert_eq!(net::route(&eth0(), FAR).unwrap(), Route { source: A, next_hop: B });
    });
}

#[test]
fn the_source_is_the_one_that_the_route_prefers() {
    let lan = Lan::new();
    lan.a.ip(&["addr", "add", "10.78.0.1/24", "dev", ETH]);
    lan.a.ip(&["route", "add", "192.0.2.0/24", "via", "10.77.0.2", "src", "10.78.0.1"]);
    let expected = Route { source: Ipv4Addr::new(10, 78, 0, 1), next_hop: B };
    assert_eq!(lan.a.run(|| net::route(&eth0(), FAR).unwrap()), expected);
}

#[test]
fn a_peer_without_route_is_refused() {
    let lan = Lan::new();
    let said = lan.a.run(|| message(net::route(&eth0(), FAR)));
    assert!(said.starts_with("there is no route to 192.0.2.1 through eth0 ("), "{said}");
    assert!(said.contains("ip route add 192.0.2.1 via GATEWAY dev eth0"), "{said}");
    lan.a.ip(&["route", "add", "unreachable", "192.0.2.0/24"]);
    assert!(matches!(lan.a.run(|| net::route(&eth0(), FAR)), Err(NetError::NoRoute { .. })));
    lan.a.ip(&["link", "add", "eth1", "type", "veth", "peer", "name", "eth2"]);
    lan.a.ip(&["link", "set", "dev", "eth1", "up"]);
    lan.a.ip(&["route", "add", "198.51.100.0/24", "dev", "eth1"]);
    let elsewhere = lan.a.run(|| net::route(&eth0(), Ipv4Addr::new(198, 51, 100, 1)));
    assert!(matches!(elsewhere, Err(NetError::NoRoute { .. })), "{elsewhere:?}");
}

#[test]
fn a_peer_that_is_this_machine_or_not_one_host_is_refused() {
    let lan = Lan::new();
    let on_another_interface = Ipv4Addr::new(10, 79, 0, 1);
    lan.a.ip(&["addr", "add", &format!("{on_another_interface}/32"), "dev", "lo"]);
    lan.a.ip(&["route", "add", "default", "via", "10.77.0.2"]);
    lan.a.run(|| {
        let eth0 = eth0();
        for own in [A, Ipv4Addr::LOCALHOST, on_another_interface] {
            assert!(matches!(net::route(&eth0, own), Err(NetError::OwnAddress { .. })), "{own}");
        }
        for (address, what) in [
            ([10, 77, 0, 255], "a broadcast address"),
            ([255, 255, 255, 255], "a broadcast address"),
            ([224, 0, 0, 1], "a multicast address"),
            ([0, 0, 0, 0], "no host's address"),
        ] {
            let address = Ipv4Addr::from(address);
            let expected = format!("{address} is {what}, and a probe needs the address of one host");
            assert_eq!(message(net::route(&eth0, address)), expected);
        }
    });
}

#[test]
fn a_route_with_an_ipv6_gateway_is_refused() {
    let lan = Lan::new();
    lan.a.set_ipv6(ETH, true);
    lan.a.ip(&["route", "add", "192.0.2.0/24", "via", "inet6", "fe80::1", "dev", ETH]);
    assert!(matches!(lan.a.run(|| net::route(&eth0(), FAR)), Err(NetError::Ipv6Gateway { .. })));
}

#[test]
fn a_live_neighbour_is_resolved_by_the_kernel() {
    let lan = Lan::new();
    let expected = lan.b.run(eth0).mac;
    lan.a.run(|| {
        let eth0 = eth0();
        assert_eq!(net::resolve_neighbour(&eth0, B, LONG).unwrap(), expected);
        assert_eq!(net::resolve_neighbour(&eth0, B, Duration::ZERO).unwrap(), expected, "known by now");
    });
}

#[test]
fn a_permanent_neighbour_is_taken_as_it_is_and_stays_permanent() {
    let lan = Lan::new();
    lan.a.ip(&["neigh", "add", &NOBODY.to_string(), "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", ETH]);
    let mac = lan.a.run(|| net::resolve_neighbour(&eth0(), NOBODY, LONG).unwrap());
    assert_eq!(mac, MacAddr([2, 0, 0, 0, 0, 0x99]));
    let shown = lan.a.ip(&["neigh", "show", "nud", "permanent"]);
    assert!(shown.starts_with("10.77.0.9 dev eth0 lladdr 02:00:00:00:00:99"));
}

#[test]
fn a_dead_neighbour_is_given_up() {
    let lan = Lan::new();
    lan.a.run(|| {
        let hasty = message(net::resolve_neighbour(&eth0(), NOBODY, Duration::from_millis(50)));
        assert!(hasty.starts_with("no answer to ARP for 10.77.0.9 on eth0: still unresolved after 0."), "{hasty}");
        let patient = message(net::resolve_neighbour(&eth0(), NOBODY, Duration::from_secs(30)));
        assert!(patient.starts_with("no answer to ARP for 10.77.0.9 on eth0: the kernel gave up after "), "{patient}");
        // An entry that has failed is tried anew.
        let again = message(net::resolve_neighbour(&eth0(), NOBODY, Duration::from_millis(50)));
        assert!(again.starts_with("no answer to ARP for 10.77.0.9 on eth0: still unresolved after 0."), "{again}");
    });
}

#[test]
fn a_neighbour_on_loopback_is_the_interface_itself() {
    let lan = Lan::new();
    let mac = lan.a.run(|| net::resolve_neighbour(&net::interface("lo").unwrap(), Ipv4Addr::LOCALHOST, LONG).unwrap());
    assert_eq!(mac, MacAddr([0; 6]));
}

#[test]
fn a_carrier_that_is_there_is_not_waited_for() {
    let lan = Lan::new();
    lan.a.run(|| net::wait_for_carrier(&eth0(), LONG, |_| (), || false).unwrap());
    lan.a.run(|| net::wait_for_carrier(&net::interface("lo").unwrap(), LONG, |_| (), || false).unwrap());
}

#[test]
fn a_carrier_that_stays_away_is_an_error_after_the_patience() {
    let lan = Lan::new();
    lan.b.ip(&["link", "set", "dev", ETH, "down"]);
    let mut told = Vec::new();
    let patience = Duration::from_millis(900);
    let said = lan.a.run(|| message(net::wait_for_carrier(&eth0(), patience, |waited| told.push(waited), || false)));
    assert!(said.starts_with("the interface eth0 has no carrier after "), "{said}");
    assert_eq!(told.len(), 1);
    assert!(told[0] >= Duration::from_millis(500), "{told:?}");
}

#[test]
fn a_carrier_that_comes_ends_the_wait() {
    let lan = Lan::new();
    lan.b.ip(&["link", "set", "dev", ETH, "down"]);
    // The first word comes from within the wait: only then is the other end brought up.
    lan.a.run(|| {
        net::wait_for_carrier(&eth0(), LONG, |_| drop(lan.b.ip(&["link", "set", "dev", ETH, "up"])), || false).unwrap()
    });
}

#[test]
fn a_port_is_reserved_once() {
    let lan = Lan::new();
    lan.a.run(|| {
        let held = net::reserve_port(ETH, A, 10_666).unwrap();
        assert_eq!(held.local_addr().unwrap().to_string(), "10.77.0.1:10666");
        let said = message(net::reserve_port(ETH, A, 10_666));
        assert!(said.starts_with("UDP port 10666 on 10.77.0.1 is taken by another process"), "{said}");
        drop(held);
        net::reserve_port(ETH, A, 10_666).unwrap();
        assert_ne!(net::reserve_port(ETH, A, 0).unwrap().local_addr().unwrap().port(), 0);
    });
}

#[test]
fn a_port_of_another_machine_or_interface_cannot_be_reserved() {
    let lan = Lan::new();
    let said = lan.a.run(|| message(net::reserve_port(ETH, B, 10_666)));
    assert!(said.starts_with("cannot bind a UDP socket to 10.77.0.2, port 10666, on eth0: "), "{said}");
    let said = lan.a.run(|| message(net::reserve_port("eth7", A, 0)));
    assert!(said.starts_with("cannot bind a UDP socket to the interface eth7: "), "{said}");
}

#[test]
fn a_neighbour_that_moved_is_noticed() {
    let lan = Lan::new();
    let expected = lan.b.run(eth0).mac;
    let wrong = "02:00:00:00:00:99";
    lan.a.ip(&["neigh", "replace", &B.to_string(), "lladdr", wrong, "nud", "stale", "dev", ETH]);
    let found = lan.a.run(|| net::resolve_neighbour(&eth0(), B, Duration::from_secs(30)).unwrap());
    assert_eq!(found, expected, "the kernel was made to look again");
}
