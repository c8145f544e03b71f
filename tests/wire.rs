//! The wire module against the recorded sessions of nanoprobe, and against random input.
//!
//! Two oracles: what nanoprobe and its kernel sent (`tests/golden`), and `pnet_packet`'s checksums.

#[path = "support/pcap.rs"]
mod pcap;

use pnet_packet::Packet as _;
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{Ipv4Packet, MutableIpv4Packet};
use pnet_packet::udp::{MutableUdpPacket, UdpPacket};
use pnet_packet::{ipv4, udp};
use proptest::prelude::{Just, ProptestConfig, Strategy, any};
use proptest::{array, collection, prop_assert, prop_assert_eq, prop_assume, prop_oneof, proptest, sample};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use xdprobe::wire::frame::{
    Envelope, Flow, FrameError, LinkHeader, MAX_FRAME_LEN, MacAddr, Template, parse, parse_ptp, write_control,
};
use xdprobe::wire::in_band::{self, Earlier, FarSource};
use xdprobe::wire::ptp::{self, Shape, Transport};
use xdprobe::wire::{
    Extension, HEADER_LEN, InBand, Kind, Load, MAX_PADDING, Message, Parsed, RawSettings, SETTINGS_LEN, Said,
    ServePath, UDP_IP_HEADERS, extension,
};

/// Bytes of an IPv4 header without options.
const IPV4_LEN: usize = 20;
/// Bytes of a UDP header.
const UDP_LEN: usize = 8;
/// The server of every recording; the client is 10.66.0.1.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);

/// What each capture has, from the table in `tests/golden/README.md`: `>` is client to server, `<` server to client.
#[rustfmt::skip]
const RECORDED: [Recorded; 21] = [
    //                         frames   SYN   SYN-ACK  SYN-RST  PING         PONG    FIN   FIN-ACK  DUMMY
    ("forward-default",         206, ["1>",   "1<",    "",      "101>",      "101<", "1>", "1<",    ""]),
    ("forward-sizes",           204, ["1>",   "1<",    "",      "100>",      "100<", "1>", "1<",    ""]),
    ("forward-pong-every-3",    137, ["1>",   "1<",    "",      "100>",      "33<",  "1>", "1<",    ""]),
    ("reverse",                 404, ["1>",   "1<",    "",      "200<",      "200>", "1<", "1>",    ""]),
    ("duplex",                  403, ["1>",   "1<",    "",      "201> 200<", "",     "",   "",      ""]),
    ("schedule",                 44, ["1>",   "1<",    "",      "20>",       "20<",  "1>", "1<",    ""]),
    ("reverse-server-schedule",  44, ["1>",   "1<",    "",      "20<",       "20>",  "1<", "1>",    ""]),
    ("dummy",                   804, ["1>",   "1<",    "",      "100>",      "100<", "1>", "1<",    "300> 300<"]),
    ("second-client",           406, ["2>",   "1<",    "1<",    "200>",      "200<", "1>", "1<",    ""]),
    ("port",                    206, ["1>",   "1<",    "",      "101>",      "101<", "1>", "1<",    ""]),
    ("jumbo-ish",               307, ["1>",   "1<",    "",      "101>",      "101<", "1>", "1<",    ""]),
    ("server-down",               7, ["7>",   "",      "",      "",          "",     "",   "",      ""]),
    ("syn-retry",               210, ["5>",   "1<",    "",      "101>",      "101<", "1>", "1<",    ""]),
    ("timeout",                 232, ["1>",   "1<",    "",      "115>",      "115<", "",   "",      ""]),
    ("timeout-pong-every-0",     29, ["1>",   "1<",    "",      "27>",       "",     "",   "",      ""]),
    ("sigint",                  194, ["1>",   "1<",    "",      "95>",       "95<",  "1>", "1<",    ""]),
    ("loss",                    199, ["1>",   "1<",    "",      "101>",      "94<",  "1>", "1<",    ""]),
    ("syn-ack-lost",            208, ["3>",   "3<",    "",      "100>",      "100<", "1>", "1<",    ""]),
    ("fin-retry",               210, ["1>",   "1<",    "",      "101>",      "101<", "5>", "1<",    ""]),
    ("fin-ack-lost",            208, ["1>",   "1<",    "",      "100>",      "100<", "5>", "1<",    ""]),
    ("log-append",              230, ["2>",   "2<",    "",      "202>",      "20<",  "2>", "2<",    ""]),
];

/// Folder, frames, and datagrams of each of [`KINDS`].
type Recorded = (&'static str, usize, [&'static str; 8]);

const KINDS: [Kind; 8] =
    [Kind::Syn, Kind::SynAck, Kind::SynRst, Kind::Ping, Kind::Pong, Kind::Fin, Kind::FinAck, Kind::Dummy];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn capture(folder: &str) -> Vec<pcap::Packet> {
    pcap::read(&golden().join(folder).join("capture.pcap"))
}

/// The number before `mark` in a cell such as `201> 200<`; 0 where there is none.
fn count_in(cell: &str, mark: char) -> usize {
    cell.split_whitespace().find_map(|count| count.strip_suffix(mark)).map_or(0, |count| count.parse().unwrap())
}

/// What a SYN says behind its header.
fn syn_body(settings: RawSettings, extension: Option<Extension>) -> Vec<u8> {
    let mut body = settings.to_bytes().to_vec();
    if let Some(extension) = extension {
        body.resize(SETTINGS_LEN + extension.len(), 0);
        extension.write(&mut body[SETTINGS_LEN..]);
    }
    body
}

/// Builds the frame of this message with the padding, or with the settings where it is a SYN.
fn build(flow: &Flow, message: Message, settings: Option<RawSettings>, padding: u16) -> Vec<u8> {
    // Not zeros: whatever the frame needs must be written.
    let mut buf = vec![0xa5; MAX_FRAME_LEN];
    let len = match settings {
        Some(settings) => write_control(flow, message, &syn_body(settings, None), &mut buf),
        None => Template::new(flow, message.kind).write(&mut buf, message.sequence, padding),
    };
    assert!(buf[len..].iter().all(|byte| *byte == 0xa5), "bytes behind the frame were written");
    buf.truncate(len);
    buf
}

/// Builds again what a recorded datagram (UDP payload) says.
fn rebuild(flow: &Flow, payload: &[u8]) -> Vec<u8> {
    let Parsed { message, said } = Message::parse(payload).unwrap();
    build(flow, message, said.and_then(|said| said.settings()), (payload.len() - HEADER_LEN) as u16)
}

/// Sets the checksum of an IPv4 header that may be nonsense, as far as there is one.
fn fix_ip_checksum(packet: &mut [u8]) {
    if let Some(mut ip) = MutableIpv4Packet::new(packet) {
        ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
    }
}

#[test]
fn the_table_has_every_capture() {
    let folders = std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let with_capture: BTreeSet<_> = folders
        .filter(|folder| folder.join("capture.pcap").exists())
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(with_capture, RECORDED.iter().map(|(folder, ..)| (*folder).to_owned()).collect());
}

#[test]
fn every_recorded_datagram_is_read_and_written_back() {
    for (folder, _, cells) in RECORDED {
        let datagrams = pcap::datagrams(&capture(folder));
        let mut counts = [[0; 2]; KINDS.len()];
        for datagram in &datagrams {
            let Parsed { message, said } = Message::parse(&datagram.payload).unwrap();
            assert!(matches!(said, None | Some(Said::Settings(_, None))), "{folder}: {datagram:?}");
            let to_server = *datagram.destination.ip() == SERVER;
            let kind = KINDS.iter().position(|kind| *kind == message.kind).unwrap();
            counts[kind][usize::from(!to_server)] += 1;
            assert_eq!(said.is_some(), message.kind == Kind::Syn, "{folder}: {datagram:?}");

            // Fragmented ones too: what was put together is what one frame on a larger MTU would carry.
            let link = LinkHeader::new(MacAddr([2; 6]), MacAddr([4; 6]));
            let flow = Flow { link, source: datagram.source, destination: datagram.destination };
            let frame = rebuild(&flow, &datagram.payload);
            let parsed = parse(&frame).unwrap();
            assert_eq!(parsed.payload, datagram.payload, "{folder}");
            assert_eq!(parsed.flow(), flow, "{folder}");
            let udp = UdpPacket::new(&frame[link.len() + IPV4_LEN..]).unwrap();
            assert_eq!(udp.get_checksum(), datagram.udp_checksum, "{folder}: {message:?}");
        }
        let expected = cells.map(|cell| [count_in(cell, '>'), count_in(cell, '<')]);
        assert_eq!(counts, expected, "{folder}");
        let fragmented = datagrams.iter().filter(|datagram| datagram.fragmented).count();
        assert_eq!(fragmented, if folder == "jumbo-ish" { 101 } else { 0 }, "{folder}");
    }
}

#[test]
fn every_recorded_frame_is_rebuilt_byte_for_byte_but_for_its_ip_id() {
    for (folder, frames, cells) in RECORDED {
        let packets = capture(folder);
        assert_eq!(packets.len(), frames, "{folder}");
        let (mut rebuilt, mut fragments) = (0, 0);
        for packet in &packets {
            let parsed = match parse(&packet.bytes) {
                Ok(parsed) => parsed,
                Err(error) => {
                    assert_eq!(error, FrameError::Fragment, "{folder}");
                    fragments += 1;
                    continue;
                }
            };
            assert_eq!(usize::from(parsed.ip_len), parsed.payload.len() + usize::from(UDP_IP_HEADERS));
            // nanoprobe's kernel numbers its packets, ours all have 0.
            let mut expected = packet.bytes.clone();
            let mut ip = MutableIpv4Packet::new(&mut expected[parsed.link.len()..]).unwrap();
            ip.set_identification(0);
            ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
            assert_eq!(rebuild(&parsed.flow(), parsed.payload), expected, "{folder}");
            rebuilt += 1;
        }
        let datagrams: usize = cells.iter().map(|cell| count_in(cell, '>') + count_in(cell, '<')).sum();
        let expected = if folder == "jumbo-ish" { (datagrams - 101, 202) } else { (datagrams, 0) };
        assert_eq!((rebuilt, fragments), expected, "{folder}");
    }
}

#[test]
fn recorded_settings_are_those_that_the_server_printed() {
    for (folder, ..) in RECORDED {
        let mut clients = BTreeSet::new();
        let printed_from_syns: Vec<String> = pcap::datagrams(&capture(folder))
            .iter()
            .filter_map(|datagram| {
                let settings = Message::parse(&datagram.payload).unwrap().said?.settings()?;
                // The server says it once, however often the SYN is repeated.
                clients.insert(datagram.source).then(|| printed(settings))
            })
            .collect();
        let out = std::fs::read_to_string(golden().join(folder).join("server.out")).unwrap_or_default();
        let lines: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("Client using settings: ")).collect();
        let unheard = match folder {
            "server-down" | "second-client" => 1,
            _ => 0,
        };
        assert_eq!(lines.len() + unheard, printed_from_syns.len(), "{folder}");
        assert_eq!(lines, printed_from_syns[..lines.len()], "{folder}");
    }
}

/// Settings in the words of nanoprobe's server.
fn printed(settings: RawSettings) -> String {
    let RawSettings { count_s, delay_us, ping_padding, pong_padding, pong_every, timer, direction } = settings;
    let timer_name = ["sleep", "busy"][timer as usize];
    let direction_name = ["forward", "reverse", "duplex"][direction as usize];
    format!(
        "count: {count_s} s, delay: {delay_us} us, ping-padding {ping_padding} bytes, pong-padding {pong_padding} bytes, \
         pong-every: {pong_every}, timer: {timer_name} ({timer}), direction: {direction_name} ({direction})"
    )
}

#[test]
fn the_smallest_ptp_frames_have_the_sizes_of_the_standard() {
    let flow = Flow {
        link: LinkHeader::new(MacAddr([2; 6]), MacAddr([4; 6])),
        source: "10.66.0.1:40000".parse().unwrap(),
        destination: "10.66.0.2:10666".parse().unwrap(),
    };
    for (transport, ip_len, zeros) in [(Transport::Udp, 88, 0), (Transport::L2, 84, 24)] {
        assert_eq!(transport.min_ip_len(), ip_len);
        for shape in [Shape::Stamped, Shape::Unstamped] {
            let template = Template::in_envelope(&flow, Kind::Ping, Envelope::new(shape, transport));
            let frame = write(&template, 0x1_2345, transport.min_padding());
            assert_eq!(frame.len(), 14 + usize::from(ip_len));
            let parsed = parse_ptp(&frame).unwrap();
            assert_eq!((parsed.ip_len, parsed.probe.shape), (ip_len, shape));
            assert_eq!(parsed.probe.message.sequence, 0x1_2345);
            let head = ptp::head(flow.source, shape == Shape::Stamped, parsed.probe.message);
            assert_eq!(head[30..32], [0x23, 0x45]);
            assert!(frame.ends_with(&[&head[..], &vec![0; zeros]].concat()));
        }
    }
    assert_eq!(Envelope::new(Shape::Plain, Transport::L2), Envelope::Plain);
}

#[test]
fn a_ptp_frame_with_vlan_tags_is_read_and_one_from_another_port_too() {
    let tagged = [&[2; 6][..], &[4; 6], &[0x88, 0xa8, 0, 5], &[0x81, 0, 0, 7], &[8, 0]].concat();
    let link = LinkHeader::parse(&tagged).unwrap().0;
    let (source, destination) = ("10.66.0.1:40000".parse().unwrap(), "10.66.0.2:10666".parse().unwrap());
    let flow = Flow { link, source, destination };
    let template = Template::in_envelope(&flow, Kind::Pong, Envelope::new(Shape::Stamped, Transport::L2));
    let frame = write(&template, 5, 40);
    assert_eq!(frame[20..22], [0x88, 0xf7]);
    let parsed = parse_ptp(&frame).unwrap();
    // The way back is one for PTP and for what is not.
    assert_eq!((parsed.link, parsed.ip_len), (link, 84));

    // A network address translator may change the source port; the destination's is PTP's.
    let message = Message { kind: Kind::Ping, sequence: 1 };
    let payload = ptp::head(source, true, message);
    for (port, ours) in [(319, true), (320, false), (10666, false)] {
        let to = Flow { destination: SocketAddrV4::new(*destination.ip(), port), ..flow };
        assert_eq!(parse_ptp(&datagram(&to, &payload)).is_ok(), ours, "port {port}");
    }
}

#[test]
#[should_panic(expected = "43 bytes of padding do not hold a PTP header")]
fn a_size_that_holds_no_ptp_header_is_refused() {
    let link = LinkHeader::new(MacAddr([2; 6]), MacAddr([4; 6]));
    let flow = Flow { link, source: "10.0.0.1:1".parse().unwrap(), destination: "10.0.0.2:2".parse().unwrap() };
    write(&Template::in_envelope(&flow, Kind::Ping, Envelope::new(Shape::Stamped, Transport::Udp)), 1, 43);
}

fn any_link() -> impl Strategy<Value = LinkHeader> {
    let tag = (sample::select(vec![[0x81, 0x00], [0x88, 0xa8]]), any::<[u8; 2]>());
    (any::<[u8; 12]>(), collection::vec(tag, 0..=2)).prop_map(|(macs, tags)| {
        let mut bytes = macs.to_vec();
        tags.iter().for_each(|(protocol, control)| bytes.extend([*protocol, *control].concat()));
        bytes.extend([0x08, 0x00]);
        let (link, rest) = LinkHeader::parse(&bytes).unwrap();
        assert_eq!((link.as_bytes(), rest.len()), (&bytes[..], 0));
        link
    })
}

fn any_address() -> impl Strategy<Value = SocketAddrV4> {
    (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port))
}

fn any_flow() -> impl Strategy<Value = Flow> {
    (any_link(), any_address(), any_address()).prop_map(|(link, source, destination)| Flow {
        link,
        source,
        destination,
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let sequence = prop_oneof![any::<u64>(), 0..1000_u64, Just(u64::MAX)];
    (sample::select(KINDS.to_vec()), sequence).prop_map(|(kind, sequence)| Message { kind, sequence })
}

fn any_settings() -> impl Strategy<Value = RawSettings> {
    any::<[u8; SETTINGS_LEN]>().prop_map(|bytes| RawSettings::from_bytes(&bytes))
}

fn any_extension() -> impl Strategy<Value = Extension> {
    let ptp = sample::select(vec![None, Some(Transport::Udp), Some(Transport::L2)]);
    let serve_on = sample::select(vec![None, Some(ServePath::Xdp), Some(ServePath::Kernel)]);
    let load =
        (any::<u64>(), any::<u16>()).prop_map(|(packets_per_second, ip_len)| Load { packets_per_second, ip_len });
    (ptp, any::<bool>(), serve_on, any::<bool>(), proptest::option::of(load))
        .prop_map(|(ptp, in_band, serve_on, account, load)| Extension { ptp, in_band, serve_on, account, load })
}

/// The headers of a ping or pong behind a PTP header, a sequence, and a padding that has room for it.
fn any_ptp() -> impl Strategy<Value = (Template, u64, u16)> {
    let envelope = (sample::select(vec![Transport::Udp, Transport::L2]), any::<bool>());
    let kind = sample::select(vec![Kind::Ping, Kind::Pong]);
    let flow = any_flow().prop_filter("nobody sends from port 0", |flow| flow.source.port() != 0);
    let sequence = prop_oneof![any::<u64>(), 0..1000_u64, 0xfff0..0x1_0010_u64];
    (flow, kind, envelope, sequence, 44..=MAX_PADDING).prop_map(
        |(flow, kind, (transport, stamped), sequence, padding)| {
            (Template::in_envelope(&flow, kind, Envelope::Ptp { transport, stamped }), sequence, padding)
        },
    )
}

/// A whole frame of this template's.
fn write(template: &Template, sequence: u64, padding: u16) -> Vec<u8> {
    // Not zeros: whatever the frame needs must be written.
    let mut buf = vec![0xa5; MAX_FRAME_LEN];
    let len = template.write(&mut buf, sequence, padding);
    assert!(buf[len..].iter().all(|byte| *byte == 0xa5), "bytes behind the frame were written");
    buf.truncate(len);
    buf
}

/// Any frame that this program can send on a session's ports.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (any_flow(), any_message(), 0..=MAX_PADDING)
            .prop_map(|(flow, message, padding)| build(&flow, message, None, padding)),
        (any_flow(), any::<u64>(), any_settings()).prop_map(|(flow, sequence, settings)| {
            build(&flow, Message { kind: Kind::Syn, sequence }, Some(settings), 0)
        }),
    ]
}

/// Whether the checksums of IPv4 and UDP are those that `pnet_packet` calculates.
fn checksums_are_right(frame: &[u8]) -> bool {
    let (_, packet) = LinkHeader::parse(frame).unwrap();
    let ip = Ipv4Packet::new(packet).unwrap();
    let udp = UdpPacket::new(ip.payload()).unwrap();
    let expected = match udp::ipv4_checksum(&udp, &ip.get_source(), &ip.get_destination()) {
        0 => 0xffff,
        checksum => checksum,
    };
    udp.get_checksum() == expected && ip.get_checksum() == ipv4::checksum(&ip)
}

/// The sum over the pseudo-header, folded: what the kernel leaves in the UDP checksum for a card to complete.
fn partial_checksum(flow: &Flow, udp_len: usize) -> u16 {
    let word = |bytes: &[u8]| u64::from(bytes[0]) << 8 | u64::from(bytes[1]);
    let addresses = [flow.source.ip().octets(), flow.destination.ip().octets()].concat();
    let sum = addresses.chunks(2).map(word).sum::<u64>() + 17 + udp_len as u64;
    ((sum - 1) % 0xffff + 1) as u16
}

/// Any datagram in a frame, with the checksum that `pnet_packet` calculates.
fn datagram(flow: &Flow, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0; IPV4_LEN + UDP_LEN];
    ip.extend(payload);
    let udp_len = (UDP_LEN + payload.len()) as u16;
    let mut udp = MutableUdpPacket::new(&mut ip[IPV4_LEN..]).unwrap();
    udp.set_source(flow.source.port());
    udp.set_destination(flow.destination.port());
    udp.set_length(udp_len);
    udp.set_checksum(udp::ipv4_checksum(&udp.to_immutable(), flow.source.ip(), flow.destination.ip()));
    let mut header = MutableIpv4Packet::new(&mut ip).unwrap();
    header.set_version(4);
    header.set_header_length(5);
    header.set_total_length(udp_len + IPV4_LEN as u16);
    header.set_next_level_protocol(IpNextHeaderProtocols::Udp);
    header.set_source(*flow.source.ip());
    header.set_destination(*flow.destination.ip());
    fix_ip_checksum(&mut ip);
    [flow.link.as_bytes(), &ip].concat()
}

/// What must be true of any answer of the parsers: reading the bytes again is the test that nothing panics.
fn answer_is_sane(frame: &[u8]) -> bool {
    let _ = parse_ptp(frame);
    let Ok(parsed) = parse(frame) else { return true };
    let _ = Message::parse(parsed.payload);
    let headers = parsed.link.len() + IPV4_LEN + UDP_LEN;
    let bounds = frame.as_ptr_range();
    parsed.payload.len() + headers <= frame.len()
        && (parsed.payload.is_empty() || bounds.contains(&parsed.payload.as_ptr()))
        && usize::from(parsed.ip_len) == parsed.payload.len() + usize::from(UDP_IP_HEADERS)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_message_reads_back(message in any_message(), settings in any_settings(), behind in any::<[u8; 9]>()) {
        let bytes = [&message.to_bytes()[..], &settings.to_bytes(), &behind].concat();
        let said = (message.kind == Kind::Syn).then_some(Said::Settings(settings, None));
        prop_assert_eq!(Message::parse(&bytes), Ok(Parsed { message, said }));
    }

    #[test]
    fn settings_read_back(bytes in any::<[u8; SETTINGS_LEN]>()) {
        prop_assert_eq!(RawSettings::from_bytes(&bytes).to_bytes(), bytes);
    }

    #[test]
    fn a_frame_reads_back(flow in any_flow(), message in any_message(), padding in 0..=MAX_PADDING) {
        let frame = build(&flow, message, None, padding);
        prop_assert_eq!(frame.len(), Template::new(&flow, message.kind).frame_len(padding));
        prop_assert!(checksums_are_right(&frame));
        let parsed = parse(&frame).unwrap();
        prop_assert_eq!(parsed.flow(), flow);
        prop_assert_eq!(usize::from(parsed.ip_len), 44 + usize::from(padding));
        let (header, zeros) = parsed.payload.split_at(HEADER_LEN);
        prop_assert_eq!(header, message.to_bytes());
        prop_assert!(zeros.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_template_that_was_turned_is_one_built_for_that_flow(
        flows in collection::vec(any_flow(), 2..5), keeps_source in any::<bool>(), keeps_link in any::<bool>(),
        sequence in any::<u64>(), padding in 0..=MAX_PADDING,
    ) {
        let first = flows[0];
        let mut turned = Template::new(&first, Kind::Pong);
        for flow in flows {
            let source = if keeps_source { first.source } else { flow.source };
            let link = if keeps_link { first.link } else { flow.link };
            let flow = Flow { link, source, ..flow };
            turned.turn_to(&flow);
            prop_assert_eq!((turned.flow(), turned.kind()), (&flow, Kind::Pong));
            let frame = write(&turned, sequence, padding);
            prop_assert!(checksums_are_right(&frame));
            prop_assert_eq!(frame, write(&Template::new(&flow, Kind::Pong), sequence, padding));
        }
    }

    #[test]
    fn a_template_behind_a_ptp_header_can_be_turned_too((mut template, sequence, padding) in any_ptp(), flow in any_flow()) {
        let anew = Template::in_envelope(&flow, template.kind(), template.envelope());
        template.turn_to(&flow);
        prop_assert_eq!(write(&template, sequence, padding), write(&anew, sequence, padding));
    }

    #[test]
    fn a_syn_reads_back(flow in any_flow(), sequence in any::<u64>(), settings in any_settings()) {
        let frame = build(&flow, Message { kind: Kind::Syn, sequence }, Some(settings), 0);
        prop_assert!(checksums_are_right(&frame));
        let parsed = parse(&frame).unwrap();
        prop_assert_eq!((parsed.flow(), parsed.ip_len), (flow, 68));
        let message = Message { kind: Kind::Syn, sequence };
        let expected = Parsed { message, said: Some(Said::Settings(settings, None)) };
        prop_assert_eq!(Message::parse(parsed.payload), Ok(expected));
    }

    #[test]
    fn an_extension_reads_back_behind_a_syn_and_in_a_syn_ack(
        flow in any_flow(), sequence in any::<u64>(), settings in any_settings(), extension in any_extension(),
        behind in collection::vec(any::<u8>(), 0..9),
    ) {
        let mut buf = [0xa5; MAX_FRAME_LEN];
        for (kind, settings) in [(Kind::Syn, Some(settings)), (Kind::SynAck, None)] {
            let message = Message { kind, sequence };
            let mut body = vec![0; extension.len()];
            extension.write(&mut body);
            if let Some(settings) = settings {
                body = syn_body(settings, Some(extension));
            }
            // An odd length too: the checksum's last word is half a one.
            body.extend(&behind);
            let len = write_control(&flow, message, &body, &mut buf);
            prop_assert!(checksums_are_right(&buf[..len]));
            let parsed = parse(&buf[..len]).unwrap();
            prop_assert_eq!(parsed.flow(), flow);
            prop_assert_eq!(&parsed.payload[HEADER_LEN..], &body);
            let said = match settings {
                Some(settings) => Said::Settings(settings, Some(extension)),
                None => Said::Extension(extension),
            };
            prop_assert_eq!(Message::parse(parsed.payload), Ok(Parsed { message, said: Some(said) }));
        }
    }

    #[test]
    fn an_extension_of_a_later_version_is_read_as_far_as_it_is_known(
        extension in any_extension(), version in any::<u8>(), at_front in any::<bool>(),
        unknown in (6..=255_u8, collection::vec(any::<u8>(), 0..=255)), behind in any::<[u8; 5]>(),
    ) {
        let mut bytes = vec![0; extension.len()];
        extension.write(&mut bytes);
        let field = [&[unknown.0, unknown.1.len() as u8], &unknown.1[..]].concat();
        let at = if at_front { 7 } else { bytes.len() };
        bytes.splice(at..at, field);
        bytes[4] = version;
        let len = (bytes.len() as u16).to_le_bytes();
        bytes[5..7].copy_from_slice(&len);
        bytes.extend(behind);
        prop_assert_eq!(Extension::parse(&bytes), Some(extension));
    }

    #[test]
    fn an_extension_of_random_fields_never_panics(mut bytes in collection::vec(any::<u8>(), 3..300), right in any::<bool>()) {
        bytes.splice(..0, extension::MAGIC);
        if right {
            let len = (bytes.len() as u16).to_le_bytes();
            bytes[5..7].copy_from_slice(&len);
        }
        let _ = Extension::parse(&bytes);
    }

    #[test]
    fn stamps_in_a_pong_read_back_in_any_envelope(
        (template, sequence, padding) in any_ptp(), (t1, t2) in any::<(u64, u64)>(),
        earlier in any::<Option<(u64, u64, u64, u64)>>(), tries in collection::vec(any::<u64>(), 0..3),
    ) {
        let earlier = earlier.map(|(sequence, pong, t1, t2)| Earlier { sequence, pong, t1, t2 });
        let told = InBand { source: FarSource::Software, t1: Some(t1), t2: None, earlier };
        let padding = padding.saturating_add(in_band::MIN_PADDING).min(MAX_PADDING);
        let plain = Template::new(template.flow(), Kind::Pong);
        let ptp = Template::in_envelope(template.flow(), Kind::Pong, template.envelope());
        for template in [plain, ptp] {
            let mut frame = write(&template, sequence, padding);
            template.put_in_band(&mut frame, sequence, padding, &told);
            // As where the kernel has no room at first.
            tries.iter().chain([&t2]).for_each(|t2| template.put_t2(&mut frame, *t2));
            let (message, read) = match template.envelope() {
                Envelope::Plain => {
                    let Parsed { message, said } = Message::parse(parse(&frame).unwrap().payload).unwrap();
                    (message, said.and_then(|said| said.in_band()))
                }
                Envelope::Ptp { .. } => {
                    let probe = parse_ptp(&frame).unwrap().probe;
                    (probe.message, probe.in_band)
                }
            };
            prop_assert_eq!(message, Message { kind: Kind::Pong, sequence });
            prop_assert_eq!(read, Some(InBand { t2: Some(t2), ..told }));
            if template.envelope() == Envelope::Plain {
                prop_assert!(checksums_are_right(&frame));
            }
            prop_assert_eq!(frame.len(), template.frame_len(padding));
        }
    }

    #[test]
    fn a_ping_behind_a_ptp_header_reads_back((template, sequence, padding) in any_ptp()) {
        let frame = write(&template, sequence, padding);
        let (flow, envelope) = (template.flow(), template.envelope());
        let Envelope::Ptp { transport, stamped } = envelope else { unreachable!() };
        // As long as nanoprobe's with the same padding.
        let plain = Template::new(flow, template.kind());
        prop_assert_eq!(frame.len(), plain.frame_len(padding));
        let parsed = parse_ptp(&frame).unwrap();
        prop_assert_eq!(parsed.link, flow.link);
        prop_assert_eq!(parsed.ip_len, 44 + padding);
        prop_assert_eq!(parsed.transport, transport);
        let shape = if stamped { Shape::Stamped } else { Shape::Unstamped };
        let message = Message { kind: template.kind(), sequence };
        prop_assert_eq!(parsed.probe, ptp::Probe { sender: flow.source, shape, message, in_band: None });
        let head_at = match transport {
            Transport::Udp => {
                prop_assert!(checksums_are_right(&frame));
                prop_assert_eq!(parsed.destination, Some(*flow.destination.ip()));
                let datagram = parse(&frame).unwrap();
                prop_assert_eq!((datagram.source.port(), datagram.destination.port()), (319, 319));
                prop_assert_eq!((datagram.source.ip(), datagram.destination.ip()), (flow.source.ip(), flow.destination.ip()));
                prop_assert_eq!(ptp::parse(datagram.payload), Some(parsed.probe));
                // To nobody's session: it is no datagram of nanoprobe's.
                flow.link.len() + IPV4_LEN + UDP_LEN
            }
            Transport::L2 => {
                prop_assert_eq!(parsed.destination, None);
                prop_assert_eq!(parse(&frame), Err(FrameError::NotIpv4(0x88f7)));
                let front = flow.link.len() - 2;
                prop_assert_eq!(&frame[..front], &flow.link.as_bytes()[..front]);
                prop_assert_eq!(&frame[front..front + 2], &[0x88, 0xf7]);
                flow.link.len()
            }
        };
        let (head, zeros) = frame[head_at..].split_at(ptp::HEAD_LEN);
        prop_assert_eq!(head, ptp::head(flow.source, stamped, message));
        prop_assert!(zeros.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_patched_ptp_frame_is_a_written_one((template, sequence, padding) in any_ptp(), later in any::<u64>()) {
        let mut frame = write(&template, sequence, padding);
        template.patch(&mut frame, later, padding);
        prop_assert_eq!(frame, write(&template, later, padding));
    }

    #[test]
    fn a_patch_changes_sequence_and_checksum_only((template, sequence, padding) in any_ptp(), later in any::<u64>()) {
        let before = write(&template, sequence, padding);
        let mut after = before.clone();
        template.patch(&mut after, later, padding);
        let message_at = match template.envelope() {
            Envelope::Ptp { transport: Transport::Udp, .. } => template.flow().link.len() + 72,
            _ => template.flow().link.len() + 44,
        };
        let mut may_change: Vec<usize> = (message_at..message_at + 8).chain(message_at - 14..message_at - 12).collect();
        if message_at - template.flow().link.len() == 72 {
            may_change.extend([message_at - 46, message_at - 45]);
        }
        for at in 0..before.len() {
            prop_assert!(before[at] == after[at] || may_change.contains(&at), "byte {} changed", at);
        }
    }

    #[test]
    fn a_ptp_frame_cut_in_its_headers_or_damaged_in_them_is_not_ours_or_says_another(
        (template, sequence, padding) in any_ptp(), cut in any::<sample::Index>(), bit in any::<sample::Index>(),
    ) {
        let frame = write(&template, sequence, padding);
        let head_len = frame.len() - usize::from(padding) - 44 + match template.envelope() {
            Envelope::Ptp { transport: Transport::Udp, .. } => 88,
            _ => 60,
        };
        prop_assert!(parse_ptp(&frame[..cut.index(head_len)]).is_err());
        let whole = parse_ptp(&frame).unwrap();
        let mut damaged = frame.clone();
        let bit = bit.index(8 * head_len);
        damaged[bit / 8] ^= 1 << (bit % 8);
        // What is left of one bit is never the same message with another sequence or version, unless both places agree.
        if let Ok(read) = parse_ptp(&damaged) {
            prop_assert_eq!(read.probe.message.sequence as u16, whole.probe.message.sequence as u16);
            prop_assert_eq!(read.probe.shape, whole.probe.shape);
        }
    }

    #[test]
    fn a_datagram_of_a_session_is_no_ptp_frame(frame in any_frame()) {
        prop_assume!(parse(&frame).unwrap().destination.port() != 319);
        prop_assert_eq!(parse_ptp(&frame), Err(FrameError::NotOurPtp));
    }

    #[test]
    fn a_ptp_message_of_another_domain_is_never_ours(
        mut bytes in collection::vec(any::<u8>(), 0..200), sync in any::<bool>(),
    ) {
        if sync && bytes.len() > 4 {
            bytes[..4].copy_from_slice(&[0, 2, 0, 44]);
        }
        prop_assume!(bytes.get(4) != Some(&ptp::DOMAIN));
        prop_assert_eq!(ptp::parse(&bytes), None);
    }

    #[test]
    fn random_ptp_messages_never_panic(mut bytes in collection::vec(any::<u8>(), 44..200)) {
        let ours = ptp::head("10.66.0.1:1".parse().unwrap(), true, Message { kind: Kind::Ping, sequence: 0 });
        bytes[..28].copy_from_slice(&ours[..28]);
        if let Some(probe) = ptp::parse(&bytes) {
            prop_assert!(matches!(probe.message.kind, Kind::Ping | Kind::Pong));
            prop_assert!(bytes.len() >= ptp::HEAD_LEN);
        }
    }

    #[test]
    fn a_patched_frame_is_a_written_one(
        flow in any_flow(), message in any_message(), later in any::<u64>(), padding in 0..=MAX_PADDING,
    ) {
        let mut frame = build(&flow, message, None, padding);
        Template::new(&flow, message.kind).patch(&mut frame, later, padding);
        prop_assert_eq!(frame, build(&flow, Message { sequence: later, ..message }, None, padding));
    }

    #[test]
    fn the_way_back_of_the_way_back_is_the_way(flow in any_flow()) {
        let back = flow.reply();
        prop_assert_eq!((back.source, back.destination), (flow.destination, flow.source));
        prop_assert_eq!(back.link.source(), flow.link.destination());
        prop_assert_eq!(back.link.destination(), flow.link.source());
        prop_assert_eq!(&back.link.as_bytes()[12..], &flow.link.as_bytes()[12..]);
        prop_assert_eq!(back.reply(), flow);
    }

    #[test]
    fn what_follows_the_packet_is_ignored(frame in any_frame(), junk in collection::vec(any::<u8>(), 0..64)) {
        let longer = [&frame[..], &junk].concat();
        prop_assert_eq!(parse(&longer), parse(&frame));
    }

    #[test]
    fn ipv4_options_are_stepped_over(frame in any_frame(), words in collection::vec(any::<[u8; 4]>(), 1..=10)) {
        let plain = parse(&frame).unwrap();
        let at = plain.link.len();
        let options = words.concat();
        let mut with_options = [&frame[..at + IPV4_LEN], &options, &frame[at + IPV4_LEN..]].concat();
        let packet = &mut with_options[at..];
        packet[0] = 0x45 + words.len() as u8;
        let total_len = packet.len() as u16;
        packet[2..4].copy_from_slice(&total_len.to_be_bytes());
        fix_ip_checksum(packet);
        prop_assert_eq!(parse(&with_options), Ok(plain));
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error(frame in any_frame(), cut in any::<sample::Index>()) {
        prop_assert!(parse(&frame[..cut.index(frame.len())]).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(answer_is_sane(&bytes));
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn random_bytes_behind_an_ethernet_header_never_panic(
        link in any_link(), mut bytes in collection::vec(any::<u8>(), 1..120), likely in any::<bool>(),
    ) {
        bytes[0] = 0x40 | bytes[0] & 0x0f;
        if likely && bytes.len() > 9 {
            bytes[2] = 0;
            bytes[6..8].fill(0);
            bytes[9] = 17;
        }
        fix_ip_checksum(&mut bytes);
        prop_assert!(answer_is_sane(&[link.as_bytes(), &bytes].concat()));
    }

    #[test]
    fn a_damaged_frame_never_panics(
        mut frame in any_frame(), flips in array::uniform4((any::<sample::Index>(), 0..8_u32)), fixed in any::<bool>(),
    ) {
        let at = LinkHeader::parse(&frame).unwrap().0.len();
        // Mostly the headers: elsewhere it would be the padding that is hit.
        let len = frame.len().min(at + 44);
        for (byte, bit) in flips {
            frame[byte.index(len)] ^= 1 << bit;
        }
        if fixed {
            // So that what is behind the check of the sum is reached too.
            fix_ip_checksum(&mut frame[at..]);
        }
        prop_assert!(answer_is_sane(&frame));
    }

    #[test]
    fn any_datagram_with_a_right_checksum_is_read(flow in any_flow(), payload in collection::vec(any::<u8>(), 0..1600)) {
        let mut frame = datagram(&flow, &payload);
        prop_assert_eq!(parse(&frame).map(|parsed| (parsed.flow(), parsed.payload)), Ok((flow, &payload[..])));
        // Whatever is in the datagram: these two checksums say nothing of it.
        let at = flow.link.len() + IPV4_LEN + UDP_LEN - 2;
        for checksum in [0, partial_checksum(&flow, UDP_LEN + payload.len())] {
            frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
            prop_assert_eq!(parse(&frame).map(|parsed| parsed.payload), Ok(&payload[..]));
        }
    }

    #[test]
    fn any_single_bit_flip_in_the_datagram_is_noticed(
        frame in any_frame(), bit in any::<sample::Index>(), in_header in any::<bool>(),
    ) {
        let parsed = parse(&frame).unwrap();
        let (flow, udp_len) = (parsed.flow(), UDP_LEN + parsed.payload.len());
        let at = parsed.link.len() + IPV4_LEN;
        let bit = bit.index(8 * if in_header { UDP_LEN } else { udp_len });
        let mut damaged = frame.clone();
        damaged[at + bit / 8] ^= 1 << (bit % 8);
        let checksum = u16::from_be_bytes([damaged[at + 6], damaged[at + 7]]);
        prop_assume!(checksum != 0 && checksum != partial_checksum(&flow, udp_len));
        let error = parse(&damaged).unwrap_err();
        let in_length = (32..48).contains(&bit);
        prop_assert!(error == FrameError::BadUdpChecksum || in_length && error == FrameError::BadUdpLength);
    }

    #[test]
    fn an_address_that_is_not_the_datagrams_is_noticed(frame in any_frame(), bit in 8 * 12..8 * IPV4_LEN) {
        // As a router that rewrites the header of the packet only.
        let mut damaged = frame.clone();
        let link = parse(&frame).unwrap().link.len();
        damaged[link + bit / 8] ^= 1 << (bit % 8);
        fix_ip_checksum(&mut damaged[link..]);
        let udp = UdpPacket::new(&damaged[link + IPV4_LEN..]).unwrap();
        let addresses = Ipv4Packet::new(&damaged[link..]).unwrap();
        let flow = Flow {
            link: LinkHeader::parse(&frame).unwrap().0,
            source: SocketAddrV4::new(addresses.get_source(), 0),
            destination: SocketAddrV4::new(addresses.get_destination(), 0),
        };
        prop_assume!(udp.get_checksum() != partial_checksum(&flow, udp.get_length().into()));
        prop_assert_eq!(parse(&damaged), Err(FrameError::BadUdpChecksum));
    }

    #[test]
    fn any_single_bit_flip_in_the_ipv4_header_is_noticed(frame in any_frame(), bit in 8..8 * IPV4_LEN) {
        // Not in the first byte: another header length sums up other bytes, which may be right by chance.
        let at = LinkHeader::parse(&frame).unwrap().0.len();
        let mut damaged = frame.clone();
        damaged[at + bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(parse(&damaged), Err(FrameError::BadIpChecksum));
    }
}
