//! PNGs of each picture of a page that `--html` wrote: `cargo run --example screenshots PAGE.html FOLDER [dark]`.
//!
//! Each is named after its kind: `histogram.png`, a second one of the kind `histogram-2.png`. Needs a Chromium.

#[path = "../tests/support/browser.rs"]
mod browser;

use anyhow::{Context, bail};
use browser::Browser;
use std::collections::HashMap;
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (page, folder, scheme) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [page, folder] => (page, folder, "light"),
        [page, folder, scheme @ ("light" | "dark")] => (page, folder, scheme),
        _ => bail!("usage: screenshots PAGE.html FOLDER [light|dark]"),
    };
    if !Path::new(page).is_file() {
        bail!("{page}: no such file; xdprobe report, compare and sweep write one with --html");
    }
    let mut browser = Browser::start();
    browser.show(1000, "screen", scheme);
    browser.open(Path::new(page));
    browser.evaluate("document.querySelectorAll('figure.chart').forEach(figure => { figure.style.padding = '14px' })");
    let kinds = browser.evaluate("[...document.querySelectorAll('figure.chart')].map(figure => figure.classList[1])");
    let mut seen: HashMap<String, u32> = HashMap::new();
    for (index, kind) in kinds.as_array().into_iter().flatten().enumerate() {
        let kind = kind.as_str().context("a picture has a kind")?;
        let count = seen.entry(kind.to_owned()).and_modify(|count| *count += 1).or_insert(1);
        let name = if *count == 1 { format!("{kind}.png") } else { format!("{kind}-{count}.png") };
        let path = Path::new(folder).join(name);
        let picture = browser.screenshot(&format!("#chart-{}", index + 1));
        std::fs::write(&path, picture).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
    }
    Ok(())
}
