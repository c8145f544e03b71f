//! A client by hand: a socket of the kernel's that says what a test wants, so that each datagram is known.

#![allow(dead_code, reason = "each user takes its part")]

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};
use xdprobe::wire::{Account, Kind, Message, Parsed};

/// No answer takes this long unless there is none.
const HANG: Duration = Duration::from_secs(20);

pub struct Hand {
    socket: UdpSocket,
    /// For the test: of its last ping, or of its last session.
    pub number: u64,
}

impl Hand {
    /// With a socket of the client's namespace, for a server that may not be there yet.
    pub fn new(socket: UdpSocket, server: impl ToSocketAddrs) -> Self {
        socket.connect(server).expect("a route");
        socket.set_read_timeout(Some(HANG)).expect("a time-out");
        Self { socket, number: 0 }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// A message with this behind its header.
    pub fn say(&self, kind: Kind, sequence: u64, behind: &[u8]) {
        self.try_say(kind, sequence, behind).expect("it is sent");
    }

    fn try_say(&self, kind: Kind, sequence: u64, behind: &[u8]) -> io::Result<usize> {
        self.socket.send(&[&Message { kind, sequence }.to_bytes()[..], behind].concat())
    }

    /// Says it until it is answered: a server may not be there yet, or have no ear for it.
    pub fn insist(&self, kind: Kind, sequence: u64, behind: &[u8]) -> Parsed {
        self.socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let until = Instant::now() + HANG;
        let answer = loop {
            match self.try_say(kind, sequence, behind).and_then(|_| self.try_hear()) {
                Ok(answer) => break answer,
                Err(error) => assert!(Instant::now() < until, "no answer comes: {error}"),
            }
        };
        self.socket.set_read_timeout(Some(HANG)).expect("a time-out");
        answer
    }

    /// What comes next.
    pub fn hear(&self) -> Parsed {
        self.try_hear().expect("an answer comes")
    }

    /// What has come and was not read yet; from now on nothing is waited for.
    pub fn heard(&self) -> Option<Parsed> {
        self.socket.set_nonblocking(true).expect("a socket");
        self.try_hear().ok()
    }

    fn try_hear(&self) -> io::Result<Parsed> {
        let mut bytes = [0; 3000];
        loop {
            match self.socket.recv(&mut bytes) {
                // Whoever stops the tests for a while and has them go on ends a call that has a time-out.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => return Ok(Message::parse(&bytes[..received?]).expect("a message")),
            }
        }
    }

    /// What comes next is of this kind.
    #[track_caller]
    pub fn expect(&self, kind: Kind) {
        assert_eq!(self.hear().message.kind, kind);
    }

    /// Has a ping answered.
    #[track_caller]
    pub fn ping(&self, sequence: u64) {
        self.say(Kind::Ping, sequence, &[]);
        assert_eq!(self.hear().message, Message { kind: Kind::Pong, sequence });
    }

    /// Ends the session.
    #[track_caller]
    pub fn fin(&self, sequence: u64) -> Option<Account> {
        self.say(Kind::Fin, sequence, &[]);
        let answer = self.hear();
        assert_eq!(answer.message, Message { kind: Kind::FinAck, sequence });
        answer.said.and_then(|said| said.account())
    }
}
