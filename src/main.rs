//! Parse, run, exit code: nothing else.

use std::io::{self, Write};
use std::process::ExitCode;
use xdprobe::caps;
use xdprobe::cli::{self, Parsed, UsageError};
use xdprobe::{compare, probe, report, sweep};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Parsed::Print(text)) => print(&text),
        Ok(Parsed::Caps(plan)) => match caps::report(&plan) {
            Ok(text) => print(&text),
            Err(error) => {
                eprintln!("xdprobe: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(Parsed::Compare(plan)) => exit(compare::run(&plan)),
        Ok(Parsed::Report(plan)) => match report::run(&plan) {
            Ok(text) => print(&text),
            Err(error) => {
                eprintln!("xdprobe: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(Parsed::Sweep(plan)) => exit(sweep::run(&plan)),
        Ok(Parsed::Run(plan)) => exit(probe::run(&plan)),
        Err(error) => {
            eprintln!("xdprobe: {error}");
            ExitCode::from(UsageError::EXIT_CODE)
        }
    }
}

/// Whether a measurement did what was asked for.
fn exit(measured: anyhow::Result<bool>) -> ExitCode {
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xdprobe: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match write(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xdprobe: cannot write to stdout: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `print!` would panic where stdout is full or closed.
fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
