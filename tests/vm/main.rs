//! The program in guests that have NICs with hardware stamps: run it with `make test-vm`.
//!
//! Each scenario is a script for the guest (`guest/scenario.sh` has what it is written in) and a check of the files that
//! came out. Scenarios of the same hardware share one boot. Arguments are those of `cargo test`: a name selects.

mod guest;
mod igb;
mod initramfs;
mod outcome;
mod session;
mod testnic;

use guest::{Boot, Hardware, Results};
use libtest_mimic::{Arguments, Failed, Trial};
use outcome::Outcome;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The longest that a boot may take for itself, and beside that for each scenario: only a hang takes as long.
const BOOT: Duration = Duration::from_secs(90);
const SCENARIO: Duration = Duration::from_secs(65);

/// One thing that the program does in a guest.
pub struct Scenario {
    /// Selects it on the command line; also the name of the folder with its files.
    pub name: String,
    /// Run by the guest, in the language of `guest/scenario.sh`.
    pub script: String,
    /// Panics where what came out is wrong.
    pub check: Box<dyn Fn(&Outcome) + Send>,
}

impl Scenario {
    /// A scenario of its three parts.
    pub fn new(name: impl Into<String>, script: impl Into<String>, check: impl Fn(&Outcome) + Send + 'static) -> Self {
        Self { name: name.into(), script: script.into(), check: Box::new(check) }
    }
}

/// The scenarios of one guest, and what came of them once it was booted.
struct Bench {
    name: &'static str,
    hardware: Hardware,
    scripts: Vec<(String, String)>,
    results: OnceLock<Results>,
}

impl Bench {
    /// The folder of a scenario's files. The first call boots the guest.
    fn scenario(&self, name: &str) -> Result<PathBuf, String> {
        let results = self.results.get_or_init(|| {
            let scenarios = self.scripts.iter().map(|(name, script)| (name.as_str(), script.as_str())).collect();
            let bound = BOOT + SCENARIO * self.scripts.len() as u32;
            let results = Boot { name: self.name, hardware: self.hardware, scenarios, bound }.run();
            eprintln!("{}: {} scenarios in {:.0} s", self.name, self.scripts.len(), results.took.as_secs_f64());
            results
        });
        results.scenario(name)
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The first to ask boots the guest, and the others wait for it.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for (name, hardware, scenarios) in
        [("testnic", Hardware::Testnic, testnic::scenarios()), ("igb", Hardware::Igb, igb::scenarios())]
    {
        // Only what is asked for is booted, too.
        let scenarios: Vec<_> =
            scenarios.into_iter().filter(|scenario| selected(&arguments, &full_name(name, scenario))).collect();
        let scripts =
            scenarios.iter().enumerate().map(|(index, scenario)| (file_name(index, scenario), scenario.script.clone()));
        let bench = Arc::new(Bench { name, hardware, scripts: scripts.collect(), results: OnceLock::new() });
        for (index, scenario) in scenarios.into_iter().enumerate() {
            let bench = Arc::clone(&bench);
            trials.push(Trial::test(full_name(name, &scenario), move || {
                let folder = bench.scenario(&file_name(index, &scenario))?;
                check(&scenario, folder)
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A scenario as the guest knows it: it runs them by the order of their names.
fn file_name(index: usize, scenario: &Scenario) -> String {
    format!("{index:03}-{}", scenario.name)
}

fn full_name(bench: &str, scenario: &Scenario) -> String {
    format!("{bench}/{}", scenario.name)
}

/// Whether libtest-mimic will run a test of this name.
fn selected(arguments: &Arguments, name: &str) -> bool {
    let matches = |filter: &String| if arguments.exact { name == filter } else { name.contains(filter.as_str()) };
    arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}

fn check(scenario: &Scenario, folder: PathBuf) -> Result<(), Failed> {
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let outcome = Outcome::new(folder.clone());
        outcome.assert_quiet_kernel();
        (scenario.check)(&outcome);
    }));
    checked.map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        Failed::from(format!("{said}\n--- script\n{}\n{}", scenario.script.trim(), Outcome::printed(&folder)))
    })
}
