//! The wire module against the recorded sessions of nanoprobe, and against random input.

#[path = "support/pcap.rs"]
mod pcap;

use std::path::Path;

/// The folder with the recordings.
fn golden(folder: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder)
}

#[test]
fn smoke() {
    use xdprobe::wire::frame::{Flow, Template, parse, write_syn};
    use xdprobe::wire::{Kind, Message};
    let packets = pcap::read(&golden("dummy").join("capture.pcap"));
    let datagrams = pcap::datagrams(&packets);
    for (packet, datagram) in packets.iter().zip(&datagrams) {
        let parsed = parse(&packet.bytes).unwrap();
        assert_eq!(parsed.payload, datagram.payload);
        let (message, settings) = Message::parse(parsed.payload).unwrap();
        let mut buf = [0; 2200];
        let flow = Flow { ..parsed.flow() };
        let len = match settings {
            Some(settings) => write_syn(&flow, message.sequence, settings, &mut buf),
            None => Template::new(&flow, message.kind).write(&mut buf, message.sequence, parsed.ip_len - 44),
        };
        let mut want = packet.bytes.clone();
        want[18..20].fill(0);
        want[24..26].copy_from_slice(&buf[24..26]);
        assert_eq!(buf[..len], want);
        assert_ne!(message.kind, Kind::SynRst);
    }
}
