//! The program in guests that have NICs with hardware stamps: run it with `make test-vm`.
//!
//! Each scenario is a script for the guest (`guest/scenario.sh` has what it is written in) and a check of the files that
//! came out. Scenarios of the same hardware share guests. Arguments are those of `cargo test`: a name selects.

mod guest;
mod igb;
mod initramfs;
mod outcome;
mod session;
mod testnic;

use guest::{Boot, Hardware, Results};
use libtest_mimic::{Arguments, Failed, Trial};
use outcome::Outcome;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind, set_hook};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How many scenarios a guest gets. A boot takes 5 s or so.
const PER_GUEST: usize = 16;
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

/// How many guests may run at the same time: more of them than CPUs would stand in each other's way.
struct Permits {
    free: Mutex<usize>,
    given_back: Condvar,
}

impl Permits {
    fn new() -> Self {
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        Self { free: Mutex::new(cpus), given_back: Condvar::new() }
    }

    fn take(&self) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.given_back.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
    }

    fn give_back(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.given_back.notify_one();
    }
}

/// A guest that is booted, and what came of it once it has switched itself off.
struct Bench {
    guest: Mutex<Option<JoinHandle<Results>>>,
    results: OnceLock<Result<Results, String>>,
}

impl Bench {
    /// Boots the guest as soon as there is a permit.
    fn start(boot: Boot, permits: &Arc<Permits>) -> Self {
        let permits = Arc::clone(permits);
        let guest = thread::spawn(move || {
            permits.take();
            // Also where it panics.
            let results = catch_unwind(AssertUnwindSafe(|| boot.run()));
            permits.give_back();
            results.unwrap_or_else(|panic| resume_unwind(panic))
        });
        Self { guest: Mutex::new(Some(guest)), results: OnceLock::new() }
    }

    /// The folder of a scenario's files. The first call waits for the guest.
    fn scenario(&self, name: &str) -> Result<PathBuf, String> {
        let results = self.results.get_or_init(|| {
            let guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner).take();
            guest.expect("it is waited for once").join().map_err(|_| last_panic())
        });
        results.as_ref().map_err(String::clone)?.scenario(name)
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They do nothing but wait for the guests, and are told in their order.
    arguments.test_threads = Some(1);
    set_hook(Box::new(remember));
    let (mut trials, start, permits) = (Vec::new(), Instant::now(), Arc::new(Permits::new()));
    for (hardware, scenarios) in [(Hardware::Testnic, testnic::scenarios()), (Hardware::Igb, igb::scenarios())] {
        // Only what is asked for is run in a guest.
        let scenarios: Vec<_> =
            scenarios.into_iter().filter(|scenario| selected(&arguments, &full_name(hardware, scenario))).collect();
        // Guests run side by side, as most of a session is waiting.
        let guests = scenarios.len().div_ceil(PER_GUEST);
        let mut shares: Vec<Vec<Scenario>> = (0..guests).map(|_| Vec::new()).collect();
        for (index, scenario) in scenarios.into_iter().enumerate() {
            shares[index % guests].push(scenario);
        }
        for (index, share) in shares.into_iter().enumerate() {
            let bench = (!arguments.list).then(|| Arc::new(Bench::start(boot(hardware, index, &share), &permits)));
            trials.extend(trials_of(hardware, bench, share));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    eprintln!("the guests took {:.0} s", start.elapsed().as_secs_f64());
    conclusion.exit_code()
}

/// A guest for a share of the scenarios.
fn boot(hardware: Hardware, index: usize, share: &[Scenario]) -> Boot {
    let scenarios = share.iter().enumerate();
    let scenarios = scenarios.map(|(index, scenario)| (file_name(index, scenario), scenario.script.clone())).collect();
    let bound = BOOT + SCENARIO * share.len() as u32;
    Boot { name: format!("{}-{index}", hardware.name()), hardware, scenarios, bound }
}

/// A test for each scenario; without a bench they can only be listed.
fn trials_of(hardware: Hardware, bench: Option<Arc<Bench>>, share: Vec<Scenario>) -> Vec<Trial> {
    let trial = |(index, scenario): (usize, Scenario)| {
        let bench = bench.clone();
        Trial::test(full_name(hardware, &scenario), move || {
            let folder = bench.expect("it is booted").scenario(&file_name(index, &scenario))?;
            check(&scenario, folder)
        })
    };
    share.into_iter().enumerate().map(trial).collect()
}

/// A scenario as the guest knows it: it runs them by the order of their names.
fn file_name(index: usize, scenario: &Scenario) -> String {
    format!("{index:03}-{}", scenario.name)
}

fn full_name(hardware: Hardware, scenario: &Scenario) -> String {
    format!("{}/{}", hardware.name(), scenario.name)
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
    checked.map_err(|_| {
        let (said, printed) = (last_panic(), Outcome::printed(&folder));
        Failed::from(format!("{said}\n--- script\n{}\n{printed}", scenario.script.trim()))
    })
}

/// What the last panic said, and where: told with the test that it belongs to.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

fn remember(panic: &PanicHookInfo<'_>) {
    *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
}

fn last_panic() -> String {
    LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
