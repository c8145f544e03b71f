//! Two network namespaces joined by a veth pair, made for one test and gone with it. Takes root.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Counts the fixtures of this process: with its id, the names are unique.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Both ends of a veth pair, each in a namespace of its own, up, with a /24 address. Offloads are as the kernel has them.
pub struct Veth {
    /// 10.77.0.1
    pub left: End,
    /// 10.77.0.2
    pub right: End,
}

/// One end.
pub struct End {
    /// The namespace, as `ip netns` names it.
    pub namespace: String,
    /// The interface in it.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Veth {
    /// A pair with one queue.
    pub fn new() -> Self {
        Self::with_queues(1)
    }

    /// A pair with so many receive and send queues at both ends.
    pub fn with_queues(queues: u32) -> Self {
        let id = format!("xp{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let end = |side: &str, last| End {
            namespace: format!("{id}{side}"),
            interface: format!("veth-{side}"),
            address: Ipv4Addr::new(10, 77, 0, last),
        };
        // Made first: should a command below fail, dropping it removes what the others made.
        let veth = Self { left: end("l", 1), right: end("r", 2) };
        for end in [&veth.left, &veth.right] {
            ip(&["netns", "add", &end.namespace]);
            // A test's own traffic only: no router solicitations, no multicast reports.
            end.sysctl("net/ipv6/conf/all/disable_ipv6", "1");
            end.sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        }
        let (left, right, queues) = (&veth.left, &veth.right, queues.to_string());
        let end_of = |end: &End| -> Vec<String> {
            [&end.interface, "netns", &end.namespace, "numrxqueues", &queues, "numtxqueues", &queues]
                .map(str::to_owned)
                .into()
        };
        let mut arguments: Vec<String> = ["link", "add"].map(str::to_owned).into();
        arguments.extend(end_of(left));
        arguments.extend(["type", "veth", "peer"].map(str::to_owned));
        arguments.extend(end_of(right));
        ip(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        for end in [left, right] {
            ip(&["-n", &end.namespace, "address", "add", &format!("{}/24", end.address), "dev", &end.interface]);
            ip(&["-n", &end.namespace, "link", "set", "lo", "up"]);
            ip(&["-n", &end.namespace, "link", "set", &end.interface, "up"]);
        }
        veth
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        for end in [&self.left, &self.right] {
            // The veth pair goes with the first of them.
            let _ = std::panic::catch_unwind(|| ip(&["netns", "del", &end.namespace]));
        }
    }
}

impl End {
    /// Runs `work` on a thread of its own in this namespace, and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into this namespace, for good.
    pub fn enter(&self) {
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).expect("the namespace exists");
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns takes root");
    }

    /// The interface's index.
    pub fn if_index(&self) -> u32 {
        let name = self.interface.clone();
        self.run(move || nix::net::if_::if_nametoindex(name.as_str()).expect("the interface exists"))
    }

    /// The interface's Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        let text = self.show(&["link", "show", &self.interface]);
        let mac = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("an Ethernet device");
        let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
        bytes.try_into().expect("six bytes")
    }

    /// What `ip` says in this namespace.
    pub fn show(&self, arguments: &[&str]) -> String {
        ip(&[&["-n", &self.namespace], arguments].concat())
    }

    fn sysctl(&self, key: &str, value: &str) {
        // A kernel without IPv6 has nothing to switch off.
        self.run(|| drop(std::fs::write(format!("/proc/sys/{key}"), value)));
    }
}

/// Held while a child runs.
static CHILD: Mutex<()> = Mutex::new(());

/// Waits until no child holds copies of this process's descriptors.
///
/// Between fork and exec a child has all of them, close-on-exec or not; and whoever waits for the exec is let go before
/// the kernel closes them (begin_new_exec, fs/exec.c). A test that looks whether something is gone with its last
/// descriptor calls this first, as the other tests' threads run `ip` at any time.
pub fn settle() {
    drop(CHILD.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Runs `ip` and returns what it prints.
pub fn ip(arguments: &[&str]) -> String {
    let child = CHILD.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new("ip").args(arguments).output().expect("ip (iproute2) is installed");
    drop(child);
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("ip prints text")
}
