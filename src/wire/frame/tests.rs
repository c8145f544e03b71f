//! Frames that are written, patched and read again, and such as nobody wrote.

use super::*;

const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0a]);
const SERVER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfb]);

fn flow() -> Flow {
    Flow {
        link: LinkHeader::new(SERVER, CLIENT),
        source: "10.66.0.1:40000".parse().unwrap(),
        destination: "10.66.0.2:10666".parse().unwrap(),
    }
}

fn ping(sequence: u64, padding: u16) -> Vec<u8> {
    let mut buf = vec![0; MAX_FRAME_LEN];
    let len = Template::new(&flow(), Kind::Ping).write(&mut buf, sequence, padding);
    buf.truncate(len);
    buf
}

/// A ping in which one field of the IPv4 header is another, with a checksum that is right again.
fn ping_with(at: usize, field: &[u8]) -> Vec<u8> {
    let mut frame = ping(1, 0);
    let ip = &mut frame[ETHERNET_LEN..ETHERNET_LEN + IPV4_LEN];
    ip[at..at + field.len()].copy_from_slice(field);
    ip[10..12].fill(0);
    let checksum = !fold(sum(ip));
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[test]
fn the_ipv4_header_is_what_a_kernel_socket_sends() {
    let frame = ping(1, 0);
    assert_eq!(frame.len(), 58);
    assert_eq!(frame[..14], [2, 0, 0, 0, 0, 0xfb, 2, 0, 0, 0, 0, 0x0a, 8, 0]);
    // Version and length, TOS 0, 44 bytes, identification 0, DF, TTL 64, UDP.
    assert_eq!(frame[14..24], [0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 17]);
}

#[test]
fn a_checksum_of_zero_is_sent_as_ones() {
    let template = Template::new(&flow(), Kind::Ping);
    let mut frame = ping(0, 0);
    // The word that makes the sum all ones is the checksum of the rest.
    let missing = [frame[40], frame[41]];
    let sequence = u64::from(u16::from_le_bytes(missing));
    template.patch(&mut frame, sequence, 0);
    assert_eq!(frame[40..42], [0xff, 0xff]);
    assert_eq!(frame, ping(sequence, 0));
}

#[test]
fn the_longest_frame_has_two_tags_and_all_the_padding() {
    let tagged = [&[0; 12][..], &[0x88, 0xa8, 0, 5], &[0x81, 0, 0, 7], &[8, 0]].concat();
    let flow = Flow { link: LinkHeader::parse(&tagged).unwrap().0, ..flow() };
    let template = Template::new(&flow, Kind::Pong);
    let mut buf = [0xff; MAX_FRAME_LEN];
    assert_eq!(template.write(&mut buf, 9, MAX_PADDING), MAX_FRAME_LEN);
    let parsed = parse(&buf).unwrap();
    assert_eq!((parsed.ip_len, parsed.flow()), (MAX_IP_LEN, flow));
    assert_eq!(parsed.link.as_bytes(), tagged);
}

#[test]
#[should_panic(expected = "2049 bytes of padding")]
fn more_padding_than_the_protocol_has_is_refused() {
    Template::new(&flow(), Kind::Ping).write(&mut [0; 4096], 1, MAX_PADDING + 1);
}

#[test]
#[should_panic(expected = "out of range")]
fn a_buffer_too_short_is_refused() {
    Template::new(&flow(), Kind::Ping).write(&mut [0; 58], 1, 1);
}

#[test]
fn a_third_tag_is_not_looked_behind() {
    let tags = [0x81, 0, 0, 1].repeat(3);
    let frame = [&[0; 12][..], &tags, &ping(1, 0)[12..]].concat();
    assert_eq!(parse(&frame), Err(FrameError::NotIpv4(0x8100)));
}

#[test]
fn other_protocols_are_told_apart() {
    let mut arp = ping(1, 0);
    arp[12..14].copy_from_slice(&[8, 6]);
    assert_eq!(parse(&arp), Err(FrameError::NotIpv4(0x0806)));
    assert_eq!(parse(&ping_with(9, &[6])), Err(FrameError::NotUdp(6)));
    assert_eq!(parse(&ping_with(0, &[0x65])), Err(FrameError::BadIpHeader));
    assert_eq!(parse(&ping_with(0, &[0x44])), Err(FrameError::BadIpHeader));
}

#[test]
fn a_header_cut_short_is_named() {
    let frame = ping(1, 0);
    assert_eq!(parse(&frame[..13]), Err(FrameError::Short(13)));
    assert_eq!(parse(&frame[..33]), Err(FrameError::BadIpHeader));
    assert_eq!(parse(&frame[..57]), Err(FrameError::BadIpLength(44)));
    let options_missing = [&frame[..14], &[0x46], &frame[15..34]].concat();
    assert_eq!(parse(&options_missing), Err(FrameError::BadIpHeader));
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    assert_eq!(parse(&ping_with(2, &[0, 45])), Err(FrameError::BadIpLength(45)));
    assert_eq!(parse(&ping_with(2, &[0, 19])), Err(FrameError::BadIpLength(19)));
    // 7 bytes are left for a UDP header; then 23 for a datagram of 24.
    assert_eq!(parse(&ping_with(2, &[0, 27])), Err(FrameError::BadUdpLength));
    assert_eq!(parse(&ping_with(2, &[0, 43])), Err(FrameError::BadUdpLength));
    for (udp_len, expected) in [(7, None), (8, Some(0)), (23, Some(15)), (24, Some(16)), (25, None)] {
        let mut frame = ping(1, 0);
        frame[38..40].copy_from_slice(&u16::to_be_bytes(udp_len));
        frame[40..42].fill(0);
        let parsed = parse(&frame).ok().map(|parsed| parsed.payload.len());
        assert_eq!(parsed, expected, "UDP length {udp_len}");
    }
}

#[test]
fn fragments_are_refused_and_other_flags_are_not() {
    for (flags, whole) in [(0x0000, true), (0x4000, true), (0x8000, true), (0x2000, false), (0x0001, false)] {
        let parsed = parse(&ping_with(6, &u16::to_be_bytes(flags))).map(|parsed| parsed.payload.len());
        assert_eq!(parsed, if whole { Ok(16) } else { Err(FrameError::Fragment) }, "flags {flags:#06x}");
    }
}

#[test]
fn a_udp_checksum_is_whole_partial_or_missing() {
    // 10.66.0.1, 10.66.0.2, 17 and 24 bytes: 0a42 + 0001 + 0a42 + 0002 + 0011 + 0018.
    for (checksum, right) in [([0, 0], true), ([0x14, 0xb0], true), ([0x14, 0xb1], false), ([0xeb, 0x4f], false)] {
        let mut frame = ping(1, 0);
        frame[40..42].copy_from_slice(&checksum);
        let expected = if right { Ok(16) } else { Err(FrameError::BadUdpChecksum) };
        assert_eq!(parse(&frame).map(|parsed| parsed.payload.len()), expected, "{checksum:02x?}");
    }
}

#[test]
fn a_long_sum_is_the_sum_of_its_words() {
    let bytes: Vec<u8> = (0..=255).cycle().take(65_507).map(|byte: u8| byte.wrapping_mul(7) | 1).collect();
    for len in (0..40).chain([1471, 1472, 65_506, 65_507]) {
        let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        let sum: u64 = bytes[..len].chunks(2).map(word).sum();
        // Neither is 0 unless all is.
        let expected = if sum == 0 { 0 } else { (sum - 1) % 0xffff + 1 };
        assert_eq!(u64::from(long_sum(&bytes[..len])), expected, "{len} bytes");
    }
    assert_eq!(long_sum(&[0xff; 65_507]), fold(0xffff + 0xff00));
    assert_eq!(long_sum(&[0; 100]), 0);
}

#[test]
fn a_checksum_corrected_for_t2_is_that_of_the_whole_frame() {
    for envelope in [Shape::Plain, Shape::Stamped].map(|shape| Envelope::new(shape, Transport::Udp)) {
        let template = Template::in_envelope(&flow(), Kind::Pong, envelope);
        let padding = envelope.min_padding() + in_band::MIN_PADDING;
        let mut buf = [0; MAX_FRAME_LEN];
        let len = template.write(&mut buf, 1, padding);
        let mut zero_checksums = 0;
        // One after the other into one frame; one word of t2 takes every value, so that the sum comes out as zero too.
        for n in 0..=0x1_0001_u64 {
            let told = InBand { t1: Some(7 << 50), t2: (n % 3 == 0).then_some(n), ..InBand::default() };
            template.put_in_band(&mut buf, 9, padding, &told);
            template.put_t2(&mut buf[..len], n ^ 0x5555_0000_5555);
            template.put_t2(&mut buf[..len], n);
            let mut whole = [0; MAX_FRAME_LEN];
            template.write(&mut whole, 9, padding);
            template.put_in_band(&mut whole, 9, padding, &InBand { t2: Some(n), ..told });
            assert_eq!(buf, whole, "{envelope:?} {n}");
            assert!(parse(&buf[..len]).is_ok());
            zero_checksums += u32::from(buf[40..42] == [0xff; 2]);
        }
        assert!(zero_checksums > 0, "{envelope:?}");
    }
}

#[test]
fn addresses_print_as_ip_prints_them() {
    assert_eq!(flow().link.destination().to_string(), "02:00:00:00:00:fb");
}
