//! Every command line of `tests/golden/bad-args` against the parser and the reader of schedules.
//!
//! What becomes of those that the parser accepts and the machine refuses is for the end-to-end tests.

#[path = "support/bad_args.rs"]
mod bad_args;

use bad_args::{Expect, Recorded, TABLE, folder, recorded};
use std::ffi::OsString;
use xdprobe::cli::{Parsed, Plan, UsageError, parse, schedule};

fn parse_case(case: &Recorded) -> Result<Parsed, UsageError> {
    parse(["xdprobe"].into_iter().chain(case.arguments.iter().map(String::as_str)).map(OsString::from))
}

fn plan(case: &Recorded) -> Plan {
    match parse_case(case) {
        Ok(Parsed::Run(plan)) => plan,
        answer => panic!("case {} ({}): {answer:?}", case.number, case.title),
    }
}

/// The entries of the case's schedule, or what is wrong with it, as it would be if it lay in the current folder.
fn load(plan: &Plan) -> Result<usize, String> {
    let Some(name) = &plan.schedule else { return Ok(0) };
    let here = format!("{}/", folder().display());
    schedule::load(&folder().join(name))
        .map(|probes| probes.len())
        .map_err(|error| error.to_string().replace(&here, ""))
}

#[test]
fn the_table_has_every_recorded_command_line_once() {
    let numbers: Vec<usize> = recorded().iter().map(|case| case.number).collect();
    assert_eq!(numbers, (1..=55).collect::<Vec<_>>());
    assert_eq!(TABLE.iter().map(|row| row.number).collect::<Vec<_>>(), numbers);
}

#[test]
fn each_command_line_gets_the_answer_of_the_table() {
    for (case, row) in recorded().iter().zip(&TABLE) {
        let about = format!("case {} ({}): {:?}", case.number, case.title, case.arguments);
        match row.expect {
            Expect::Usage(line) => {
                let Err(error) = parse_case(case) else { panic!("{about} is accepted") };
                assert_eq!(error.to_string(), line, "{about}");
            }
            Expect::Help => {
                let Ok(Parsed::Print(text)) = parse_case(case) else { panic!("{about} gives no help") };
                assert!(text.contains("Usage: xdprobe"), "{about}: {text}");
            }
            Expect::Schedule(line) => assert_eq!(load(&plan(case)), Err(line.to_owned()), "{about}"),
            Expect::Accepted(entries) => assert_eq!(load(&plan(case)), Ok(entries), "{about}"),
            Expect::Machine(_) => assert_eq!(plan(case).warnings, [""; 0], "{about}"),
        }
    }
}

#[test]
fn what_the_original_accepts_is_accepted_and_where_ours_differs_the_table_says_why() {
    for (case, row) in recorded().iter().zip(&TABLE) {
        let about = format!("case {} ({})", case.number, case.title);
        let accepted = matches!(row.expect, Expect::Accepted(_) | Expect::Help);
        if case.exit == 0 {
            assert!(accepted && row.differs.is_none(), "{about}");
        } else if accepted {
            assert!(row.differs.is_some(), "{about} is refused by the original");
        }
    }
}

#[test]
fn wrong_command_lines_are_told_apart_by_their_exit_code() {
    assert_eq!(UsageError::EXIT_CODE, 2);
}
