//! Parse, run, exit code: nothing else.

use std::io::{self, Write};
use std::process::ExitCode;
use xdprobe::cli::{self, Parsed, UsageError};
use xdprobe::probe;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Parsed::Print(text)) => match print(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("xdprobe: cannot write to stdout: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(Parsed::Run(plan)) => match probe::run(&plan) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("xdprobe: {error:#}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("xdprobe: {error}");
            ExitCode::from(UsageError::EXIT_CODE)
        }
    }
}

/// `print!` would panic where stdout is full or closed.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
