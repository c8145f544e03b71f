//! `xdprobe caps`: what card, driver and kernel can do for probing, how that was found out, and what it means.
//!
//! It changes nothing: everything is asked for (netlink, ioctls, `/sys`), and the one thing that is tried is loading the
//! XDP program, which is unloaded without having been attached. `collect` asks, `facts` and `advice` put what was found
//! into words without asking anything.
#![forbid(unsafe_code)]

mod advice;
mod collect;
mod facts;

use crate::cli::CapsPlan;
use crate::net::hwtstamp::{Config, StampingError};
use crate::net::netdev::{RxQueue, XdpFeatures};
use crate::net::privilege::Capability;
use crate::net::tsinfo::TsInfo;
use crate::net::tuning::Coalescing;
use crate::net::{DriverFacts, Interface, NetError};
use crate::path::xdp::{AttachedProgram, Refusal};
use advice::Advice;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// What was asked, and either the answer or why there is none.
type Answer<T> = Result<T, String>;

/// All that was found out about one interface and the machine that it is in.
#[derive(Debug, Clone)]
struct Findings {
    interface: Interface,
    driver: Option<DriverFacts>,
    kernel: String,
    stamps: Answer<Option<TsInfo>>,
    /// The card's clock: its device, and whether this process can read it.
    phc: Option<(PathBuf, Answer<()>)>,
    stamping: Result<Config, StampingError>,
    xdp: Answer<XdpFeatures>,
    attached: Answer<Option<AttachedProgram>>,
    trial_load: Result<(), Refusal>,
    /// The same of the program that is bound to the device and asks its driver for the card's stamps.
    bound_load: Result<(), Refusal>,
    queues: Answer<Option<Vec<RxQueue>>>,
    idle_states: Vec<IdleState>,
    /// What `/dev/cpu_dma_latency` says, in microseconds.
    latency_limit_us: Answer<i32>,
    coalescing: Answer<Option<Coalescing>>,
    features: Answer<Option<Vec<String>>>,
    /// Each capability that some way of probing needs, and whether the process has it.
    privileges: Vec<(Capability, bool)>,
    /// `RLIMIT_MEMLOCK` in bytes; `None` where there is none.
    locked_memory_limit: Option<u64>,
    /// The first UDP port that takes no privilege.
    first_unprivileged_port: u16,
}

/// A state that an idle CPU sleeps in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct IdleState {
    name: String,
    /// How long waking from it takes.
    latency_us: u32,
    is_disabled: bool,
}

/// One line of the report.
#[derive(Debug, Clone)]
struct Fact {
    /// Its name in JSON.
    key: &'static str,
    /// Its name for people.
    name: &'static str,
    text: String,
    /// The same for programs; null where there is none, or it is not known.
    value: Value,
    /// The kernel answered.
    is_known: bool,
    /// What was asked.
    found_by: &'static str,
    /// Sentences; a list has a line for each of its things.
    meaning: String,
}

/// Lines that belong together.
#[derive(Debug, Clone)]
struct Group {
    heading: &'static str,
    facts: Vec<Fact>,
}

/// The report, as text or as one JSON object; it ends with a newline.
///
/// # Errors
/// [`NetError`] where there is no such interface, or the kernel cannot be asked at all. What else is not answered is part
/// of the report.
pub fn report(plan: &CapsPlan) -> Result<String, NetError> {
    let found = collect::collect(&plan.interface)?;
    let groups = facts::groups(&found);
    let best = advice::best(&found);
    Ok(if plan.json { as_json(&found, &groups, &best) } else { as_text(&found, &groups, &best) })
}

/// Columns that a line of the text has at most, unless a word is longer.
const COLUMNS: usize = 100;
/// Where the values begin.
const INDENT: usize = 20;

fn as_text(found: &Findings, groups: &[Group], best: &Advice) -> String {
    let mut text = format!("{} on Linux {}\n", found.interface.name, found.kernel);
    // Writing to a String cannot fail.
    for group in groups {
        let _ = write!(text, "\n{}\n", group.heading);
        for Fact { name, text: value, found_by, meaning, .. } in &group.facts {
            let first = format!("{value} [{found_by}]");
            wrap(&mut text, &format!("  {name:<width$}", width = INDENT - 2), &first);
            meaning.lines().for_each(|line| wrap(&mut text, &" ".repeat(INDENT), line));
        }
    }
    let _ = write!(text, "\nBest stamps here\n");
    wrap(&mut text, "  ", &best.reason);
    for line in [&best.server, &best.client] {
        let _ = writeln!(text, "    {line}");
    }
    text
}

/// Appends `words`, broken into lines: `first` stands before the first one, blanks before the others.
fn wrap(text: &mut String, first: &str, words: &str) {
    let mut line = first.trim_end().to_owned();
    let indent = first.chars().count();
    let mut is_empty = true;
    for word in words.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            text.push_str(&line);
            text.push('\n');
            line.clear();
            is_empty = true;
        }
        let column = line.chars().count();
        line.extend(std::iter::repeat_n(
            ' ',
            if is_empty { indent.saturating_sub(column).max(usize::from(column > 0)) } else { 1 },
        ));
        line.push_str(word);
        is_empty = false;
    }
    text.push_str(&line);
    text.push('\n');
}

fn as_json(found: &Findings, groups: &[Group], best: &Advice) -> String {
    let mut object = Map::new();
    object.insert("interface".to_owned(), json!(found.interface.name));
    object.insert("kernel".to_owned(), json!(found.kernel));
    for fact in groups.iter().flat_map(|group| &group.facts) {
        let Fact { value, is_known, found_by, meaning, .. } = fact;
        let fields = json!({ "value": value, "is_known": is_known, "found_by": found_by, "meaning": meaning });
        object.insert(fact.key.to_owned(), fields);
    }
    let Advice { server, client, reason, timestamps, path } = best;
    let best = json!({
        "timestamps": timestamps, "path": path, "server": server, "client": client, "meaning": reason,
    });
    object.insert("best_stamps".to_owned(), best);
    format!("{}\n", Value::Object(object))
}

#[cfg(test)]
mod tests;
