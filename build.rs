//! Compiles `bpf/steer.bpf.c` with clang and generates its skeleton, `$OUT_DIR/steer.skel.rs`.
//!
//! `CLANG` names another compiler. libbpf's headers come with the `libbpf-cargo` crate, the kernel's with the C library's
//! development package.

use libbpf_cargo::SkeletonBuilder;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const SOURCE: &str = "bpf/steer.bpf.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed=bpf/steer.h");
    println!("cargo:rerun-if-env-changed=CLANG");

    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    if let Err(error) = Command::new(&clang).arg("--version").output() {
        fail(&format!(
            "cannot run {clang:?}, which compiles {SOURCE}: {error}: install clang (apt install clang), or name it in CLANG"
        ));
    }
    let skeleton = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("steer.skel.rs");
    let result =
        SkeletonBuilder::new().source(SOURCE).clang(clang).clang_args(arguments()).build_and_generate(&skeleton);
    if let Err(error) = result {
        fail(&format!("cannot build {SOURCE} (it needs clang, linux-libc-dev and libelf-dev): {error:#}"));
    }
}

fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["-Wall", "-Wextra", "-Werror", "-mcpu=v3"].map(OsString::from).into();
    // For the bpf target clang does not look where Debian and Ubuntu keep <asm/types.h>; elsewhere it is in /usr/include.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    for multiarch in [format!("{arch}-linux-gnu"), format!("{arch}-linux-gnueabihf")] {
        let directory = Path::new("/usr/include").join(multiarch);
        if directory.is_dir() {
            arguments.push("-idirafter".into());
            arguments.push(directory.into());
        }
    }
    arguments
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    exit(1)
}
