//! What needs more than nanoprobe's protocol, against a server that knows nothing else: it is refused, and both stderr and exit
//! code say so.
//!
//! The server is a socket of this test that answers as the original does in `tests/golden`: a SYN-ACK of 16 bytes with the SYN's
//! number and nothing behind it, whatever stands behind the SYN's settings. Needs root and iproute2.

#[path = "support/programs.rs"]
mod programs;

use programs::{CLIENT_LINK, Lan, Program, SERVER_ADDRESS, Side};
use std::net::UdpSocket;
use std::thread::JoinHandle;
use std::time::Duration;
use xdprobe::wire::{Kind, Message};

const PORT: u16 = 10666;
/// nanoprobe's SYN: header and settings.
const PLAIN_SYN: usize = 16 + 24;
/// No client takes this long to its FIN unless it hangs.
const HANG: Duration = Duration::from_secs(60);

/// What came to an original until the FIN, in order, with the bytes of each datagram.
fn original(lan: &Lan) -> JoinHandle<Vec<(Kind, usize)>> {
    let socket = lan.namespace(Side::Server).run(|| UdpSocket::bind((SERVER_ADDRESS, PORT)).unwrap());
    socket.set_read_timeout(Some(HANG)).unwrap();
    std::thread::spawn(move || {
        let mut came = Vec::new();
        let mut bytes = [0; 3000];
        loop {
            let (len, from) = socket.recv_from(&mut bytes).expect("a FIN comes");
            let Message { kind, sequence } = Message::parse(&bytes[..len]).expect("a message").message;
            came.push((kind, len));
            let answer = match kind {
                Kind::Syn => Kind::SynAck,
                Kind::Ping => Kind::Pong,
                _ => Kind::FinAck,
            };
            let answer = Message { kind: answer, sequence }.to_bytes();
            assert_eq!(answer.len(), 16);
            socket.send_to(&answer, from).unwrap();
            if kind == Kind::Fin {
                return came;
            }
        }
    })
}

/// Runs a client against it; the client, and what came until its FIN.
fn run(lan: &Lan, flags: &str) -> (Program, Vec<(Kind, usize)>) {
    let server = original(lan);
    let words: Vec<_> = flags.split_whitespace().chain(["-i", CLIENT_LINK, "-e", SERVER_ADDRESS]).collect();
    let client = lan.run(Side::Client, &words);
    (client, server.join().expect("an original that does not panic"))
}

#[test]
fn stamps_inside_the_pongs_are_refused_in_words_that_name_flag_and_peer() {
    let lan = Lan::new(1);
    for path in ["xdp", "kernel"] {
        for mode in ["", "--reverse"] {
            let (client, came) = run(&lan, &format!("--client -n 1 --in-band --path {path} {mode}"));
            assert_eq!(client.code(), Some(1), "{}", client.all_output());
            let stderr = client.stderr();
            let line = "The server at 10.66.0.2:10666 does not answer the extension that --in-band needs: it is a nanoprobe, or \
                        an xdprobe that is too old: run this xdprobe there, or leave --in-band out.";
            assert_eq!(stderr.lines().filter(|said| *said == line).count(), 1, "{stderr}");
            // It was asked, and no ping was sent to one that would not understand.
            let kinds: Vec<_> = came.iter().map(|(kind, _)| *kind).collect();
            assert_eq!((kinds.first(), kinds.last()), (Some(&Kind::Syn), Some(&Kind::Fin)), "{came:?}");
            assert!(kinds[..kinds.len() - 1].iter().all(|kind| *kind == Kind::Syn), "{came:?}");
            assert!(came[0].1 > PLAIN_SYN, "the extension stands behind the settings: {came:?}");
        }
    }
    lan.assert_unchanged();
}

#[test]
fn it_is_so_in_the_statistics_too() {
    let lan = Lan::new(1);
    let (client, _) = run(&lan, "--client -n 1 --in-band --json");
    assert_eq!(client.code(), Some(1), "{}", client.all_output());
    let json: serde_json::Value = serde_json::from_str(&client.stdout()).expect("one object");
    assert_eq!((&json["end"], &json["success"], &json["pings_sent"]), (&"not_agreed".into(), &false.into(), &0.into()));
    assert!(json["rtt_ns"].is_null(), "{json}");
}

#[test]
fn compare_and_sweep_say_what_such_a_server_lacks() {
    let lan = Lan::new(1);
    for (flags, said) in [
        (
            "compare --rounds 3",
            "round 1 on the xdp path: the server at 10.66.0.2:10666 does not know what a comparison asks for (the path that it is to \
             serve on, an account of what it did): it is a nanoprobe, or an xdprobe that is too old: run this xdprobe there, with \
             --server --keep",
        ),
        (
            "sweep --rates 100pps",
            "the server at 10.66.0.2:10666 does not agree to be flooded and to count what comes: it is a nanoprobe, or an xdprobe \
             that is too old: run this xdprobe there (xdprobe --server --keep)",
        ),
    ] {
        let (client, came) = run(&lan, flags);
        assert_eq!((client.code(), client.stdout()), (Some(1), String::new()), "{}", client.all_output());
        assert!(client.stderr().contains(said), "{}", client.stderr());
        assert!(came.iter().all(|(kind, _)| [Kind::Syn, Kind::Fin].contains(kind)), "{came:?}");
    }
    lan.assert_unchanged();
}

#[test]
fn a_session_that_needs_nothing_more_is_had() {
    let lan = Lan::new(1);
    let (client, came) = run(&lan, "--client -n 1 -d 10000 --json");
    assert_eq!(client.code(), Some(0), "{}", client.all_output());
    assert_eq!(came[0], (Kind::Syn, PLAIN_SYN), "byte for byte nanoprobe's");
    let json: serde_json::Value = serde_json::from_str(&client.stdout()).expect("one object");
    let pings = came.iter().filter(|(kind, _)| *kind == Kind::Ping).count();
    assert!(pings > 10 && json["lost"] == 0 && json["pings_sent"] == pings, "{json}");
}
