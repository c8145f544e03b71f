//! The XDP program: loaded, attached to an interface, its map of sockets and its counters.
//!
//! It does not open AF_XDP sockets. Dropping what is here detaches and unloads; so does the kernel when the process is
//! killed, as the program hangs on a `bpf_link` that lives as long as its file descriptor.

use super::trial::Reason;
use super::{HookStamps, XdpMode};
use crate::net::kernel_version::KernelVersion;
use crate::path::XdpCounters;
use crate::wire::frame::MacAddr;
use anyhow::{Context, anyhow};
use libbpf_rs::libbpf_sys;
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, PrintLevel};
use nix::errno::Errno;
use std::cell::RefCell;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What libbpf-cargo generated from `bpf/steer.bpf.c`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_imports,
    reason = "generated"
)]
pub(super) mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

/// The programs' names, as the kernel cuts them (`BPF_OBJ_NAME_LEN`, 15 bytes).
const OWN_NAMES: [&str; 2] = ["xdprobe_steer", "xdprobe_stamp"];
/// How many lines of the verifier's log an error shows: the reason stands at its end.
const VERIFIER_LINES: usize = 12;

/// The mode that a program is attached in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachedMode {
    /// The driver runs it, before the kernel allocates anything for the packet.
    Native,
    /// The kernel runs it, on any interface, after it allocated.
    Generic,
}

impl AttachedMode {
    /// The name on the command line and in the meta file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::Native => libbpf_sys::XDP_FLAGS_DRV_MODE,
            Self::Generic => libbpf_sys::XDP_FLAGS_SKB_MODE,
        }
    }
}

/// The steering program, loaded for one address and port.
#[derive(Debug)]
pub struct Program {
    program: OwnedFd,
    sockets: MapHandle,
    counts: MapHandle,
    kernel_peer: MapHandle,
}

/// What a program did with a frame in a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// What it returned: a value of `enum xdp_action` (`linux/bpf.h`).
    pub action: u32,
    /// The metadata area, if it left one, and the frame behind it.
    pub bytes: Vec<u8>,
}

impl Program {
    /// Loads the program for UDP packets to `local` in frames to `mac`, for receive queues below `queues`.
    ///
    /// With `device`, an interface's index, it is bound to that interface and asks its driver for the card's receive stamps
    /// (`Documentation/networking/xdp-rx-metadata.rst`); such a program cannot be attached in generic mode.
    ///
    /// # Errors
    /// What is missing: a capability or a newer kernel; else the end of the verifier's log.
    pub fn load(
        local: SocketAddrV4,
        mac: MacAddr,
        queues: u32,
        device: Option<u32>,
        stamps: HookStamps,
    ) -> anyhow::Result<Self> {
        collect_libbpf_messages();
        let result = Self::try_load(local, mac, queues, device, stamps);
        let messages = MESSAGES.take();
        result.map_err(|error| match device {
            Some(_) => {
                let reason = Reason::of(error.kind(), true, is_rejected(&messages), KernelVersion::running());
                load_error(&error, &messages).context(format!(
                    "cannot bind the XDP program to the device, which hardware receive stamps over AF_XDP need: {} Use --path \
                     kernel, or --timestamps software",
                    reason.sentence()
                ))
            }
            None => load_error(&error, &messages),
        })
    }

    /// Whether the kernel takes the program; it is unloaded at once.
    ///
    /// # Errors
    /// What libbpf answered, without more words; and whether it was the verifier that said no.
    pub(super) fn trial(device: Option<u32>) -> Result<(), (libbpf_rs::Error, bool)> {
        collect_libbpf_messages();
        let nowhere = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9);
        let result = Self::try_load(nowhere, MacAddr([0; 6]), 1, device, HookStamps::Each);
        let messages = MESSAGES.take();
        result.map(drop).map_err(|error| (error, is_rejected(&messages)))
    }

    fn try_load(
        local: SocketAddrV4,
        mac: MacAddr,
        queues: u32,
        device: Option<u32>,
        stamps: HookStamps,
    ) -> libbpf_rs::Result<Self> {
        let mut object = MaybeUninit::uninit();
        let mut open = skeleton::SteerSkelBuilder::default().open(&mut object)?;
        open.progs.xdprobe_steer.set_autoload(device.is_none());
        open.progs.xdprobe_stamp.set_autoload(device.is_some());
        if let Some(index) = device {
            open.progs.xdprobe_stamp.set_ifindex(index);
            open.progs.xdprobe_stamp.set_flags(libbpf_sys::BPF_F_XDP_DEV_BOUND_ONLY | libbpf_sys::BPF_F_XDP_HAS_FRAGS);
        }
        open.maps.steer_sockets.set_max_entries(queues.max(1))?;
        let data = open.maps.rodata_data.as_deref_mut().ok_or_else(|| {
            libbpf_rs::Error::from(io::Error::new(io::ErrorKind::InvalidData, "the skeleton has no .rodata"))
        })?;
        // Addresses are in network byte order: the bytes as they stand in the packet.
        data.steer_config.address = u32::from_ne_bytes(local.ip().octets());
        data.steer_config.port = local.port().to_be();
        data.steer_config.mac = mac.0;
        data.steer_config.record_every = stamps.one_in();
        let loaded = open.load()?;
        Ok(Self {
            // The skeleton goes; the program and its maps stay for as long as these descriptors.
            program: match device {
                Some(_) => loaded.progs.xdprobe_stamp.as_fd().try_clone_to_owned()?,
                None => loaded.progs.xdprobe_steer.as_fd().try_clone_to_owned()?,
            },
            sockets: MapHandle::try_from(&loaded.maps.steer_sockets)?,
            counts: MapHandle::try_from(&loaded.maps.steer_counts)?,
            kernel_peer: MapHandle::try_from(&loaded.maps.steer_kernel_peer)?,
        })
    }

    /// Attaches the program to an interface.
    ///
    /// # Errors
    /// Which program is there already, or what the kernel answered in the mode or modes that were tried.
    pub fn attach(&self, interface: &str, if_index: u32, mode: XdpMode) -> anyhow::Result<Link> {
        refuse_a_second_program(interface, if_index)?;
        let attach = |mode| self.attach_in(if_index, mode).map(|link| Link { _link: link, mode });
        match mode {
            XdpMode::Native => attach(AttachedMode::Native).map_err(|errno| {
                anyhow!(
                    "cannot attach the XDP program to {interface} in native mode: {}: use --xdp-mode generic, or --path \
                     kernel",
                    attach_answer(errno)
                )
            }),
            XdpMode::Generic => attach(AttachedMode::Generic).map_err(|errno| {
                anyhow!(
                    "cannot attach the XDP program to {interface} in generic mode: {}: use --path kernel",
                    attach_answer(errno)
                )
            }),
            XdpMode::Auto => attach(AttachedMode::Native).or_else(|native| {
                attach(AttachedMode::Generic).map_err(|generic| {
                    anyhow!(
                        "cannot attach the XDP program to {interface}: in native mode: {}; in generic mode: {}: use \
                         --path kernel",
                        attach_answer(native),
                        attach_answer(generic)
                    )
                })
            }),
        }
    }

    fn attach_in(&self, if_index: u32, mode: AttachedMode) -> Result<OwnedFd, Errno> {
        let options = libbpf_sys::bpf_link_create_opts {
            sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
            flags: mode.flags(),
            ..Default::default()
        };
        // SAFETY: the descriptor is open, and the options live until the call returns.
        let answer = unsafe {
            libbpf_sys::bpf_link_create(
                self.program.as_raw_fd(),
                if_index as i32,
                libbpf_sys::BPF_XDP,
                &raw const options,
            )
        };
        if answer < 0 {
            return Err(Errno::from_raw(-answer));
        }
        // SAFETY: a new descriptor, which nobody else has.
        Ok(unsafe { OwnedFd::from_raw_fd(answer) })
    }

    /// Lets a receive queue's packets go to an AF_XDP socket.
    pub(super) fn connect(&self, queue: u32, socket: BorrowedFd<'_>) -> anyhow::Result<()> {
        self.sockets
            .update(&queue.to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes(), MapFlags::ANY)
            .with_context(|| format!("cannot put the AF_XDP socket of queue {queue} into the XDP program's map"))
    }

    /// Gives a receive queue's packets back to the kernel. Harmless where the queue has no socket.
    pub(super) fn disconnect(&self, queue: u32) {
        // An error would mean that there is no socket, which is what is asked for.
        let _ = self.sockets.delete(&queue.to_ne_bytes());
    }

    /// Leaves the packets of this peer to the kernel, and nobody else's; with `None` nobody's.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn leave_to_kernel(&self, peer: Option<SocketAddrV4>) -> io::Result<()> {
        let mut value = [0; size_of::<skeleton::types::steer_peer>()];
        if let Some(peer) = peer {
            value[..4].copy_from_slice(&peer.ip().octets());
            value[4..6].copy_from_slice(&peer.port().to_be_bytes());
        }
        let updated = self.kernel_peer.update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY);
        updated.map_err(|error| io::Error::other(error.to_string()))
    }

    /// The peer whose packets are left to the kernel.
    ///
    /// # Errors
    /// What the kernel answered to reading the map.
    pub fn left_to_kernel(&self) -> anyhow::Result<Option<SocketAddrV4>> {
        let value = self.kernel_peer.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY);
        let value = value.context("cannot read the XDP program's map of the kernel's peer")?;
        let bytes = value.as_deref().and_then(|value| value.first_chunk::<6>());
        let &[a, b, c, d, high, low] =
            bytes.ok_or_else(|| anyhow!("the XDP program's map of the kernel's peer is empty"))?;
        let peer = SocketAddrV4::new([a, b, c, d].into(), u16::from_be_bytes([high, low]));
        Ok((peer.port() != 0).then_some(peer))
    }

    /// What the program counted, over all CPUs. The fields of the sockets are 0.
    ///
    /// # Errors
    /// What the kernel answered to reading the map.
    pub fn counters(&self) -> anyhow::Result<XdpCounters> {
        type Counters = skeleton::types::steer_counters;
        let per_cpu = self
            .counts
            .lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .context("cannot read the XDP program's counters")?
            .ok_or_else(|| anyhow!("the XDP program's map of counters is empty"))?;
        let mut sum = XdpCounters::default();
        for cpu in &per_cpu {
            let field = |at: usize| cpu[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            sum.seen += field(std::mem::offset_of!(Counters, seen));
            sum.redirected += field(std::mem::offset_of!(Counters, redirected));
            sum.passed += field(std::mem::offset_of!(Counters, passed));
            sum.malformed += field(std::mem::offset_of!(Counters, malformed));
            sum.unstamped += field(std::mem::offset_of!(Counters, unstamped));
            sum.stamp_error = sum.stamp_error.max(field(std::mem::offset_of!(Counters, stamp_error)));
        }
        Ok(sum)
    }

    /// Runs the program on one frame without an interface (`BPF_PROG_TEST_RUN`). It counts as always.
    ///
    /// # Errors
    /// What the kernel answered; frames below 14 bytes are refused.
    pub fn dry_run(&self, frame: &[u8]) -> io::Result<DryRun> {
        let mut bytes = vec![0; frame.len() + 256];
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            data_out: bytes.as_mut_ptr().cast(),
            data_size_out: bytes.len() as u32,
            repeat: 1,
            ..Default::default()
        };
        // SAFETY: the descriptor is open; both buffers are as long as said, and live until the call returns.
        let answer = unsafe { libbpf_sys::bpf_prog_test_run_opts(self.program.as_raw_fd(), &raw mut options) };
        if answer < 0 {
            return Err(io::Error::from_raw_os_error(-answer));
        }
        bytes.truncate(options.data_size_out as usize);
        Ok(DryRun { action: options.retval, bytes })
    }
}

/// The program on an interface. Dropping it detaches.
#[derive(Debug)]
pub struct Link {
    _link: OwnedFd,
    mode: AttachedMode,
}

impl Link {
    /// The mode that the program is attached in.
    pub const fn mode(&self) -> AttachedMode {
        self.mode
    }
}

fn refuse_a_second_program(interface: &str, if_index: u32) -> anyhow::Result<()> {
    let there = attached_program(if_index)
        .map_err(|errno| anyhow!("cannot ask for the XDP program on {interface}: {}", errno.desc()))?;
    match there {
        Some(program) => Err(occupied(interface, &program)),
        None => Ok(()),
    }
}

fn occupied(interface: &str, program: &AttachedProgram) -> anyhow::Error {
    let AttachedProgram { id, name, keyword } = program;
    if let Some(name) = name.as_deref().filter(|name| OWN_NAMES.contains(name)) {
        return anyhow!(
            "cannot attach the XDP program to {interface}: it already has program {id} ({name:?}): another xdprobe is measuring \
             there: wait for its end, or use --path kernel"
        );
    }
    let name = name.as_ref().map_or_else(|| "name unknown".to_owned(), |name| format!("{name:?}"));
    anyhow!(
        "cannot attach the XDP program to {interface}: it already has program {id} ({name}): detach it (ip link set dev \
         {interface} {keyword} off, or end the process that holds its link), or use --path kernel"
    )
}

/// An XDP program that hangs on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedProgram {
    /// Its id, as bpftool shows it.
    pub id: u32,
    /// Its name; `None` where this process may not ask for it.
    pub name: Option<String>,
    /// `ip link`'s word for the mode that it is attached in.
    pub keyword: &'static str,
}

/// The XDP program that hangs on an interface, where there is one.
///
/// # Errors
/// What the kernel answered.
pub fn attached_program(if_index: u32) -> Result<Option<AttachedProgram>, Errno> {
    let mut there = libbpf_sys::bpf_xdp_query_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_query_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    // SAFETY: the options live until the call returns.
    let answer = unsafe { libbpf_sys::bpf_xdp_query(if_index as i32, 0, &raw mut there) };
    if answer < 0 {
        return Err(Errno::from_raw(-answer));
    }
    let modes = [
        (there.drv_prog_id, "xdpdrv"),
        (there.skb_prog_id, "xdpgeneric"),
        (there.hw_prog_id, "xdpoffload"),
        (there.prog_id, "xdp"),
    ];
    Ok(modes.into_iter().find(|&(id, _)| id != 0).map(|(id, keyword)| {
        let name = ProgInfoIter::default().find(|program| program.id == id);
        AttachedProgram { id, name: name.map(|program| program.name.to_string_lossy().into_owned()), keyword }
    }))
}

/// An errno of attaching, with what it means there.
fn attach_answer(errno: Errno) -> String {
    let meaning = match errno {
        Errno::EOPNOTSUPP => " (the driver has no such mode)",
        Errno::EBUSY | Errno::EEXIST => " (another program is attached)",
        Errno::ERANGE | Errno::EINVAL => {
            " (the driver refuses it with the interface's present MTU, features or queues)"
        }
        Errno::EPERM => " (it takes root, or CAP_NET_ADMIN and CAP_BPF)",
        _ => "",
    };
    format!("{}{meaning}", errno.desc())
}

/// Whether the verifier has looked at the program and said what it found.
fn is_rejected(messages: &str) -> bool {
    messages.contains("BEGIN PROG LOAD LOG")
}

fn load_error(error: &libbpf_rs::Error, messages: &str) -> anyhow::Error {
    if error.kind() == libbpf_rs::ErrorKind::PermissionDenied && !is_rejected(messages) {
        return anyhow!(
            "cannot load the XDP program: {error}: it takes root, or CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW"
        );
    }
    let release = nix::sys::utsname::uname()
        .map_or_else(|_| "of unknown release".to_owned(), |kernel| kernel.release().to_string_lossy().into_owned());
    let lines: Vec<&str> = messages.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = lines[lines.len().saturating_sub(VERIFIER_LINES)..].join("\n");
    // What is missing cannot be told from here: an old kernel and a lacking capability look alike to the verifier.
    anyhow!(
        "cannot load the XDP program into this kernel ({release}): {error}: run it as root on Linux 6.1 or later, or use \
         --path kernel\n{end}"
    )
}

thread_local! {
    /// What libbpf said on this thread since the last load began.
    static MESSAGES: RefCell<String> = const { RefCell::new(String::new()) };
}

/// libbpf writes to stderr on its own; what is useful of it goes into the error instead.
fn collect_libbpf_messages() {
    fn collect(_level: PrintLevel, message: String) {
        MESSAGES.with_borrow_mut(|messages| messages.push_str(&message));
    }
    MESSAGES.take();
    libbpf_rs::set_print(Some((PrintLevel::Warn, collect)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_the_way_is_named_and_our_own_is_not_to_be_detached() {
        let program = |name: Option<&str>| AttachedProgram { id: 51, name: name.map(Into::into), keyword: "xdpdrv" };
        let foreign = occupied("eth0", &program(Some("cil_xdp_entry"))).to_string();
        assert!(
            foreign.contains("program 51 (\"cil_xdp_entry\"): detach it (ip link set dev eth0 xdpdrv off"),
            "{foreign}"
        );
        let unknown = occupied("eth0", &program(None)).to_string();
        assert!(unknown.contains("program 51 (name unknown): detach it"), "{unknown}");
        let own = occupied("eth0", &program(Some("xdprobe_stamp"))).to_string();
        assert!(own.contains("program 51 (\"xdprobe_stamp\"): another xdprobe") && !own.contains("detach"), "{own}");
    }
}
