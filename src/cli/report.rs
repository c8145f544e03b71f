//! What `xdprobe report` was asked for, checked.

use super::UsageError;
use super::args::ReportArgs;
use crate::report::{Input, ReportPlan};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(super) fn plan(args: ReportArgs) -> Result<ReportPlan, UsageError> {
    let ReportArgs {
        client,
        server,
        session,
        server_session,
        with,
        label,
        clocks,
        stages,
        json,
        csv,
        parquet,
        html,
        ..
    } = args;
    let Some(client) = client else {
        return Err(UsageError::see_help("a log is needed: <client.csv>"));
    };
    if server_session.is_some() && server.is_none() {
        return Err(UsageError::see_help("--server-session needs the server's log: <server.csv>"));
    }
    let session = session.map(u64::from);
    let first = Input {
        client,
        server,
        label: String::new(),
        session,
        server_session: server_session.map(u64::from).or(session),
        stages,
    };
    let mut inputs = vec![first];
    for pair in with {
        inputs.push(other(&pair)?);
    }
    if label.len() > inputs.len() {
        let sessions = match inputs.len() {
            1 => "one session".to_owned(),
            count => format!("{count} sessions"),
        };
        return Err(UsageError::see_help(format_args!(
            "--label is given {} times, for {sessions}: leave some out, or add sessions with --with",
            label.len()
        )));
    }
    for (input, label) in inputs.iter_mut().zip(label) {
        input.label = label;
    }
    for (flag, file) in [("--csv", &csv), ("--parquet", &parquet)] {
        if let (Some(file), true) = (file, inputs.len() > 1) {
            return Err(UsageError::value(flag, file, "has room for one session: leave --with out"));
        }
    }
    let files = [("--csv", &csv), ("--parquet", &parquet), ("--html", &html)];
    for (index, (flag, file)) in files.iter().enumerate() {
        let Some(file) = file else { continue };
        let of = |input: &'_ Input| -> Vec<PathBuf> {
            [&input.client].into_iter().chain(&input.server).chain(&input.stages).cloned().collect()
        };
        if inputs.iter().flat_map(of).any(|log| is_same(&log, file)) {
            return Err(UsageError::value(flag, file, "must be another file than the logs"));
        }
        if let Some((other, _)) =
            files[..index].iter().find(|(_, other)| other.as_ref().is_some_and(|other| is_same(other, file)))
        {
            return Err(UsageError::value(flag, file, format_args!("must be another file than that of {other}")));
        }
    }
    Ok(ReportPlan { inputs, clocks, json, csv, parquet, html })
}

/// `client.csv` or `client.csv,server.csv`.
fn other(pair: &OsString) -> Result<Input, UsageError> {
    let parts: Vec<&[u8]> = pair.as_bytes().split(|byte| *byte == b',').collect();
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let (client, server) = match parts[..] {
        [client] if !client.is_empty() => (path(client), None),
        [client, server] if !client.is_empty() && !server.is_empty() => (path(client), Some(path(server))),
        _ => {
            return Err(UsageError::value(
                "--with",
                pair,
                "must be a client's log, and perhaps a server's behind a comma",
            ));
        }
    };
    Ok(Input { client, server, ..Input::default() })
}

fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    place(one) == place(other)
}
