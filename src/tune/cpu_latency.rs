//! How deep idle CPUs may sleep (Documentation/power/pm_qos_interface.rst): a request that holds as long as its descriptor.
//!
//! The kernel takes the least of all requests, and this one back with the process, however it ends.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where requests are made.
const DEVICE: &str = "/dev/cpu_dma_latency";

/// Why there is no such request.
#[derive(Debug, thiserror::Error)]
#[error(
    "--cpu-latency {micros}: cannot ask the kernel for CPUs that wake up within that: {}: {answer}: {}",
    device.display(),
    match answer.kind() {
        io::ErrorKind::NotFound => "there is no such device here (in a container it has to be handed in; a kernel may lack it): \
                                    leave --cpu-latency out",
        io::ErrorKind::PermissionDenied => "run as root, or have the device's permissions changed, or leave --cpu-latency out",
        _ => "leave --cpu-latency out",
    }
)]
pub struct CpuLatencyError {
    /// What was asked for, in µs.
    pub micros: u32,
    /// The device.
    pub device: PathBuf,
    /// What the kernel answered.
    pub answer: io::Error,
}

/// Idle CPUs sleep only as deep as lets them wake up in time, for as long as this lives.
#[derive(Debug)]
pub struct CpuLatency {
    _request: File,
}

impl CpuLatency {
    /// Asks for CPUs that wake up within `micros` µs, at most 2147483647; 0 has them not sleep at all, but poll.
    ///
    /// # Errors
    /// [`CpuLatencyError`].
    pub fn hold(micros: u32) -> Result<Self, CpuLatencyError> {
        Self::hold_on(Path::new(DEVICE), micros)
    }

    fn hold_on(device: &Path, micros: u32) -> Result<Self, CpuLatencyError> {
        let failed = |answer| CpuLatencyError { micros, device: device.into(), answer };
        let number = i32::try_from(micros).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        let mut request = OpenOptions::new().write(true).open(device).map_err(failed)?;
        // Four bytes are a number; ten or so would be read as digits.
        request.write_all(&number.to_ne_bytes()).map_err(failed)?;
        Ok(Self { _request: request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_four_bytes_of_the_machines_order() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("cpu_dma_latency");
        std::fs::write(&device, "").unwrap();
        let held = CpuLatency::hold_on(&device, 70_000).unwrap();
        assert_eq!(std::fs::read(&device).unwrap(), 70_000_i32.to_ne_bytes());
        drop(held);
        let error = CpuLatency::hold_on(&device, u32::MAX).unwrap_err();
        assert_eq!(error.answer.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let error = CpuLatency::hold_on(Path::new("/nowhere/cpu_dma_latency"), 5).unwrap_err().to_string();
        assert!(error.starts_with("--cpu-latency 5: ") && error.contains("/nowhere/cpu_dma_latency"), "{error}");
        assert!(error.contains("leave --cpu-latency out"), "{error}");
    }
}
