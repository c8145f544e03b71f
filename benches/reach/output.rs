//! What the benches have in common: their environment, the machine, and how their files are written.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A number from the environment, or what it is where nothing is said.
pub fn number(name: &str, default: u32) -> Result<u32> {
    match std::env::var(name) {
        Ok(value) => value.parse().with_context(|| format!("{name}={value} is not a number")),
        Err(_) => Ok(default),
    }
}

/// The first two CPUs that this process may use, or those that `CPUS=a,b` names.
pub fn cpus() -> Result<[usize; 2]> {
    if let Ok(named) = std::env::var("CPUS") {
        let cpus: Vec<usize> = named.split(',').map(str::parse).collect::<Result<_, _>>().context("CPUS=a,b")?;
        return cpus.try_into().ok().context("CPUS=a,b names two");
    }
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    Ok([cpus.next(), cpus.next()].map(Option::unwrap_or_default))
}

/// Writes a bench's JSON: what it was run with, figures and targets. The environment's `variable` names another file than `default`.
pub fn write_json(variable: &str, default: &str, bench: Value) -> Result<()> {
    let file = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    let mut whole = json!({ "format": 1, "version": env!("CARGO_PKG_VERSION") });
    let (Value::Object(all), Value::Object(bench)) = (&mut whole, bench) else { unreachable!("both are objects") };
    all.extend(bench);
    write(Path::new(&file), &format!("{whole:#}\n")).with_context(|| format!("cannot write {file}"))?;
    println!("\n{file} has every round.");
    Ok(())
}

/// Writes a file that belongs to whom its folder belongs to: no file of root's is left among the sources.
fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = std::fs::metadata(folder)?;
    std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid()))?;
    Ok(())
}

/// The machine by type: processor, number of CPUs, kernel.
pub fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{model}, {cpus} CPUs, kernel {}", read("/proc/sys/kernel/osrelease").trim())
}
