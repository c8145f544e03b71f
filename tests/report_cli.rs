//! `xdprobe report` as a program: what it prints, the files that it writes, and its exit codes. Needs DuckDB (`make test-deps`).

#[path = "support/logs.rs"]
mod logs;

use logs::World;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// Exit code, stdout, stderr.
fn xdprobe(folder: &Path, line: &str) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_xdprobe"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("it ends by itself"), text(output.stdout), text(output.stderr))
}

fn printed(folder: &Path, line: &str) -> String {
    let (code, out, err) = xdprobe(folder, line);
    assert_eq!((code, err.as_str()), (0, ""), "{line}");
    out
}

fn json(folder: &Path, line: &str) -> Value {
    let out = printed(folder, line);
    assert_eq!(out.lines().count(), 1, "{out}");
    serde_json::from_str(&out).expect("JSON")
}

/// A folder with the logs of a session with trouble, and its pings.
fn session() -> (TempDir, World) {
    let world = World {
        seed: 7,
        pings: 500,
        interval: 1_000_000,
        skew_ppm: 12.0,
        offset: 3_600_000_000_000,
        delay: 40_000,
        jitter: 10_000.0,
        loss: [0.05, 0.04],
        duplicates: [0.02, 0.03],
        overtaken: [0.02, 0.01],
    };
    let folder = TempDir::new().unwrap();
    let logs = world.run();
    fs::write(folder.path().join("client.csv"), logs.pinging).unwrap();
    fs::write(folder.path().join("server.csv"), logs.echoing).unwrap();
    (folder, world)
}

#[test]
fn json_has_every_key_and_text_the_main_numbers() {
    let (folder, world) = session();
    let truth = world.run().truth;
    let found = json(folder.path(), "report client.csv server.csv --json");
    let [forth, back] = truth.lost;
    for (key, count) in [
        ("sent", truth.sent),
        ("received", truth.received),
        ("lost", forth + back),
        ("lost_forward", forth),
        ("lost_backward", back),
        ("duplicated", truth.duplicated),
        ("reordered", truth.reordered[0] + truth.reordered[1]),
        ("damaged_rows", 0),
        ("session", 1),
        ("sessions", 1),
    ] {
        assert_eq!(found[key], count, "{key}");
    }
    for key in [
        "rtt_ns",
        "t3_t0_ns",
        "owd_forward_ns",
        "owd_backward_ns",
        "ipdv_ns",
        "ipdv_forward_ns",
        "ipdv_backward_ns",
        "jitter_ns",
        "inter_departure_error_ns",
    ] {
        let object = found[key].as_object().unwrap_or_else(|| panic!("{key}"));
        let keys: Vec<&str> = object.keys().map(String::as_str).collect();
        let mut expected = ["count", "min", "mean", "stddev", "p50", "p90", "p99", "p999", "p9999", "max"];
        expected.sort_unstable();
        let mut keys = keys;
        keys.sort_unstable();
        assert_eq!(keys, expected, "{key}");
        if let Some(bins) = found["over_time"][key].as_array() {
            assert!(bins.iter().all(|bin| bin["width_ns"].as_u64() > Some(0)), "{key}");
        }
    }
    assert_eq!((&found["direction"], &found["ipdv_of"]), (&Value::from("forward"), &Value::from("ipdv_forward_ns")));
    for key in ["skew_ppm", "offset_ns", "residual_ns", "bound_ns"] {
        assert!(found["clock"][key].is_number(), "{key}");
    }
    let text = printed(folder.path(), "report server.csv client.csv --session 1");
    assert!(text.contains(&format!("  lost            {} (", forth + back)), "{text}");
    for word in ["one-way forward", "IPDV backward", "skew", "residual", "RTT over time"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let alone = json(folder.path(), "report client.csv --json");
    assert_eq!((&alone["lost_forward"], &alone["rtt_ns"]), (&Value::Null, &Value::Null));
    assert!(alone["t3_t0_ns"]["count"].is_number());
}

#[test]
fn the_joined_rows_are_read_back_from_both_files() {
    let (folder, _) = session();
    let line = "report client.csv server.csv --json --csv joined.csv --parquet joined.parquet";
    let found = json(folder.path(), line);
    let mut reader = csv::Reader::from_path(folder.path().join("joined.csv")).unwrap();
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    assert_eq!(found["sent"], rows.len());
    let column = |name: &str| header.iter().position(|known| known == name).expect(name);
    let mut rtts: Vec<i64> = rows.iter().filter_map(|row| row[column("rtt_ns")].parse().ok()).collect();
    rtts.sort_unstable();
    assert_eq!(found["rtt_ns"]["count"], rtts.len());
    assert_eq!(found["rtt_ns"]["p99"], logs::nearest_rank(&rtts, 9900));
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        *states.entry(&row[column("state")]).or_default() += 1;
        let number = |name| row[column(name)].parse::<i64>().ok();
        let [t0, t1, t2, t3] = ["t0_ns", "t1_ns", "t2_ns", "t3_ns"].map(number);
        let rtt = t0.zip(t1).zip(t2.zip(t3)).map(|((t0, t1), (t2, t3))| (t3 - t0) - (t2 - t1));
        assert_eq!(number("rtt_ns"), rtt, "{row:?}");
    }
    let count = |state: &str| states.get(state).copied().unwrap_or_default();
    assert_eq!(found["received"], count("received"));
    assert_eq!(found["lost_forward"], count("lost_forward"));
    assert_eq!(found["lost_backward"], count("lost_backward"));

    let reader = SerializedFileReader::new(File::open(folder.path().join("joined.parquet")).unwrap()).unwrap();
    let read = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        let cells = row.get_column_iter().map(|(name, field)| {
            let text = match field {
                Field::Null => String::new(),
                Field::Long(number) => number.to_string(),
                Field::Str(text) => text.clone(),
                other => panic!("{name}: {other:?}"),
            };
            (name.clone(), text)
        });
        cells.collect::<Vec<_>>()
    });
    let mut number = 0;
    for (row, expected) in read.zip(&rows) {
        assert!(row.iter().map(|(name, _)| name).eq(&header));
        assert!(row.iter().map(|(_, text)| text).eq(expected), "{row:?} {expected:?}");
        number += 1;
    }
    assert_eq!(number, rows.len());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "no temporary file is left: {left:?}");
}

/// Has DuckDB, an engine that knows nothing of the crate that wrote the file, run Python in a folder; what that printed.
fn duckdb(folder: &Path, script: &str) -> Value {
    let cached = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cache/duckdb");
    let interpreter = cached.join("python3");
    let python = if interpreter.exists() { interpreter.as_path() } else { Path::new("python3") };
    let mut command = Command::new(python);
    command.args(["-c", script]).current_dir(folder).env("PYTHONPATH", cached).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().expect("Python is there: run make test-deps");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "DuckDB is there and takes it (else run make test-deps): {error}");
    serde_json::from_slice(&output.stdout).expect("an object")
}

/// Of each column its type, how many rows have a value, the sum of numbers, and how many bytes text has.
const AGGREGATES: &str = r#"
import duckdb, json
db = duckdb.connect()
found = {}
for name, kind, *_ in db.execute("DESCRIBE SELECT * FROM 'joined.parquet'").fetchall():
    of = f'CAST({name} AS HUGEINT)' if kind == 'BIGINT' else f'length({name})'
    count, total = db.execute(f"SELECT count({name}), sum({of}) FROM 'joined.parquet'").fetchone()
    found[name] = {'type': kind, 'count': count, 'sum': str(total or 0)}
rows = db.execute("SELECT count(*) FROM 'joined.parquet'").fetchone()[0]
db.execute("COPY (SELECT * FROM 'joined.parquet') TO 'duckdb.csv' (HEADER, DELIMITER ',')")
print(json.dumps({'rows': rows, 'columns': found}))
"#;

#[test]
fn another_engine_reads_the_parquet_file_as_it_is_in_the_csv_file() {
    // More rows than are written together, some of them without each of the stamps.
    const PINGS: u64 = 140_000;
    let folder = tempfile::tempdir().unwrap();
    let mut logs = ["seq,timestamp-idx,timestamp,size\n"; 2].map(str::to_owned);
    for sequence in 1..=PINGS {
        let points = match sequence % 10 {
            0 => 1,
            1 => 3,
            _ => 4,
        };
        for (point, side) in [(0, 0), (1, 1), (2, 1), (3, 0)].into_iter().take(points) {
            let nanos = sequence * 10_000 + point * (700 + sequence * 7919 % 997);
            let (seconds, nanos) = (1_750_785_880 + nanos / 1_000_000_000, nanos % 1_000_000_000);
            logs[side] += &format!("{sequence},t{point},{seconds}.{nanos:09},44\n");
        }
    }
    for (name, log) in ["client.csv", "server.csv"].iter().zip(logs) {
        fs::write(folder.path().join(name), log).unwrap();
    }
    let line = "report client.csv server.csv --json --csv joined.csv --parquet joined.parquet";
    assert_eq!(json(folder.path(), line)["sent"], PINGS);

    let found = duckdb(folder.path(), AGGREGATES);
    assert_eq!(found["rows"], PINGS);
    let mut reader = csv::Reader::from_path(folder.path().join("joined.csv")).unwrap();
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let mut expected = vec![(0_u64, 0_i128); header.len()];
    for row in reader.records() {
        for ((count, sum), (name, cell)) in expected.iter_mut().zip(header.iter().zip(&row.unwrap())) {
            let is_text = ["way", "state"].contains(&name.as_str());
            *count += u64::from(is_text || !cell.is_empty());
            *sum += if is_text { cell.len() as i128 } else { cell.parse().unwrap_or(0) };
        }
    }
    assert_eq!(found["columns"].as_object().map(|columns| columns.len()), Some(header.len()));
    let mut nulls = 0;
    for (name, (count, sum)) in header.iter().zip(expected) {
        let kind = if ["way", "state"].contains(&name.as_str()) { "VARCHAR" } else { "BIGINT" };
        let wanted = serde_json::json!({ "type": kind, "count": count, "sum": sum.to_string() });
        assert_eq!(found["columns"][name], wanted, "{name}");
        nulls += PINGS - count;
    }
    assert!(nulls > PINGS / 10, "some are absent: {nulls}");
    // Row by row too: what it writes of the one is the other.
    let [theirs, ours] = ["duckdb.csv", "joined.csv"].map(|name| fs::read_to_string(folder.path().join(name)).unwrap());
    let first = theirs.lines().zip(ours.lines()).find(|(theirs, ours)| theirs != ours);
    assert_eq!((first, theirs.len()), (None, ours.len()));
}

#[test]
fn sessions_are_laid_over_each_other() {
    let (folder, _) = session();
    let other = format!("{GOLDEN}/loss/client.csv,{GOLDEN}/loss/server.csv");
    let line = format!("report client.csv server.csv --with {other} --label new --label old --html page.html");
    let both: Vec<Value> = serde_json::from_str(&printed(folder.path(), &format!("{line} --json"))).unwrap();
    let labels: Vec<&Value> = both.iter().map(|report| &report["label"]).collect();
    assert_eq!(labels, ["new", "old"]);
    assert_eq!(both[1]["lost"], 13);
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    // RTT and one-way delay, each as histogram, distribution and over time.
    assert_eq!(page.matches("<figure").count(), 6, "{}", page.len());
    assert!(page.contains("new, forward") && page.contains("old, backward"));
    let folder = folder.path();
    let one = fs::read_to_string(folder.join("page.html")).unwrap();
    printed(folder, &format!("report {GOLDEN}/duplex/client.csv {GOLDEN}/duplex/server.csv --html page.html"));
    let duplex = fs::read_to_string(folder.join("page.html")).unwrap();
    assert!(duplex != one && duplex.matches("<figure").count() == 3);
}

#[test]
fn stages_are_in_text_json_and_page() {
    let (folder, _) = session();
    let stages = "seq,point,size,queue,t_app,t_sw,t_hw,hw_clock\n1,t0,44,,1000,1500,,\n1,t3,44,3,9000,8000,,\n";
    fs::write(folder.path().join("stages.csv"), stages).unwrap();
    let line = "report client.csv server.csv --stages stages.csv --html page.html";
    let found = json(folder.path(), &format!("{line} --json"));
    assert_eq!(found["stages"][0]["hook_to_app_ns"]["p50"], 1000);
    assert!(printed(folder.path(), line).contains("hook->app"));
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert_eq!(page.matches("<figure").count(), 7);
}

#[test]
fn what_cannot_be_done_is_one_line_and_an_exit_code() {
    let (folder, _) = session();
    fs::write(folder.path().join("old.csv"), "kept").unwrap();
    for (line, code, answer) in [
        ("report", 2, "a log is needed: <client.csv>"),
        ("report a b c", 2, "c is one argument too many"),
        ("repor a b", 2, "there is no subcommand repor; did you mean report?"),
        ("report client.csv --clocks maybe", 2, "--clocks maybe: "),
        ("report client.csv --session 0", 2, "--session 0: must be in [1, "),
        ("report client.csv --server-session 2", 2, "--server-session needs the server's log"),
        ("report client.csv --with a,b,c", 2, "--with a,b,c: must be "),
        ("report client.csv --label a --label b", 2, "--label is given 2 times, for one session: leave some out"),
        (
            "report client.csv --with server.csv --label a --label b --label c",
            2,
            "--label is given 3 times, for 2 sessions: ",
        ),
        ("report client.csv --csv client.csv", 2, "--csv client.csv: must be another file than the logs"),
        ("report client.csv --csv x --parquet x", 2, "--parquet x: must be another file than that of --csv"),
        ("report client.csv --csv x --with server.csv", 2, "--csv x: has room for one session"),
        ("report client.csv --interface eth0", 2, "--interface is no flag of xdprobe report"),
        ("report none.csv", 1, "cannot read none.csv: No such file"),
        ("report old.csv", 1, "old.csv is no log: it begins with \"kept\""),
        ("report client.csv --session 2", 1, "--session 2: client.csv has 1 session: name one from 1 to 1"),
        ("report client.csv --csv none/x", 1, "cannot write none/x (--csv): No such file"),
        ("report client.csv old.csv --csv old.csv", 2, "--csv old.csv: must be another file"),
        ("report client.csv client.csv --parquet old.csv", 1, "that is one file"),
    ] {
        let (found, out, err) = xdprobe(folder.path(), line);
        assert_eq!((found, out.as_str()), (code, ""), "{line}: {err}");
        assert!(err.starts_with(&format!("xdprobe: {answer}")) || err.contains(answer), "{line}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("old.csv")).unwrap(), "kept");
}
