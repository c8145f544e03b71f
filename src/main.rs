//! Parse, run, exit code: nothing else.

use std::process::ExitCode;
use xdprobe::cli::{self, Parsed, UsageError};
use xdprobe::probe;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Parsed::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
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
