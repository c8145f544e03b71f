//! Trying whether the kernel takes the XDP program, without attaching it anywhere; and why it does not.
#![forbid(unsafe_code)]

use super::program::Program;
use crate::net::kernel_version::KernelVersion;
use libbpf_rs::ErrorKind;

/// The first kernel that binds programs to devices (`BPF_F_XDP_DEV_BOUND_ONLY`).
const BINDING_NEEDS: KernelVersion = KernelVersion { major: 6, minor: 3 };

/// Why a program was not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The process may not.
    Privilege,
    /// It was to be bound to a device, and the kernel, of this version, is too old for that.
    OldKernel(KernelVersion),
    /// It was to be bound to a device whose driver runs no XDP programs.
    NoDriverXdp,
    /// The answer does not tell.
    Untold,
}

/// What the kernel said to a program that it did not load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In libbpf's words.
    pub answer: String,
    /// What that means.
    pub reason: Reason,
}

impl Reason {
    /// What an error of loading means; `bound`: of a program that was to be bound to a device; `rejected`: the verifier has
    /// looked at it.
    pub(super) fn of(kind: ErrorKind, bound: bool, rejected: bool, kernel: Option<KernelVersion>) -> Self {
        match (kind, kernel) {
            (ErrorKind::PermissionDenied, _) if !rejected => Self::Privilege,
            // It does not know the flag (EINVAL), or has no function of that name.
            (_, Some(kernel)) if bound && kernel < BINDING_NEEDS => Self::OldKernel(kernel),
            // EOPNOTSUPP: no ndo_bpf (bpf_dev_offload_check, kernel/bpf/offload.c). A driver that runs programs and has no
            // stamps for them is no reason: the program is loaded, and asks in vain.
            (ErrorKind::Unsupported, _) if bound && !rejected => Self::NoDriverXdp,
            _ => Self::Untold,
        }
    }

    /// The same as a sentence on a program that was to be bound to a device.
    pub fn sentence(self) -> String {
        match self {
            Self::Privilege => "The process may not load it.".to_owned(),
            Self::OldKernel(kernel) => {
                format!("Linux {kernel} binds no program to a device, which {BINDING_NEEDS} is the first to do.")
            }
            Self::NoDriverXdp => "The driver runs no XDP programs, so that none can be bound to the device.".to_owned(),
            Self::Untold => {
                "The kernel does not bind the program to the device, for no reason that could be told.".to_owned()
            }
        }
    }
}

/// Loads the program and unloads it again; with `device`, an interface's index, the one that is bound to it. Nothing runs
/// it in between, and the interface does not notice.
///
/// # Errors
/// What the kernel answered.
pub fn trial_load(device: Option<u32>) -> Result<(), Refusal> {
    Program::trial(device).map_err(|(error, rejected)| Refusal {
        answer: format!("{error:#}"),
        reason: Reason::of(error.kind(), device.is_some(), rejected, KernelVersion::running()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_kernels_the_drivers_or_the_users_affair() {
        let (old, new) = (KernelVersion { major: 6, minor: 2 }, KernelVersion { major: 6, minor: 3 });
        let of = |kind, bound, rejected, kernel| Reason::of(kind, bound, rejected, Some(kernel));
        assert_eq!(of(ErrorKind::InvalidInput, true, false, old), Reason::OldKernel(old));
        assert_eq!(of(ErrorKind::Other, true, true, old), Reason::OldKernel(old));
        assert_eq!(of(ErrorKind::InvalidInput, true, false, new), Reason::Untold);
        assert_eq!(of(ErrorKind::Unsupported, true, false, new), Reason::NoDriverXdp);
        assert_eq!(of(ErrorKind::Unsupported, false, false, new), Reason::Untold, "nothing was asked of a driver");
        assert_eq!(of(ErrorKind::InvalidInput, false, false, old), Reason::Untold);
        assert_eq!(of(ErrorKind::PermissionDenied, true, false, old), Reason::Privilege);
        assert_eq!(of(ErrorKind::PermissionDenied, true, true, new), Reason::Untold, "the verifier's no");
        assert_eq!(Reason::of(ErrorKind::InvalidInput, true, false, None), Reason::Untold);
        assert!(Reason::OldKernel(old).sentence().starts_with("Linux 6.2 binds no program to a device, which 6.3"));
    }
}
