//! A page open in a browser, and what must be so of every page, whatever it shows.

#![allow(dead_code, reason = "each user takes its part")]

#[path = "browser.rs"]
mod browser;

use browser::Browser;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A4 less its margins, in CSS pixels.
const PAPER: (u32, u32) = (687, 1016);
/// As a browser says white.
const WHITE: &str = "rgb(255, 255, 255)";
/// Where a page is looked at: how wide the window is, what it says of itself, and whether everything must fit into it. On a
/// telephone a picture is larger than that, and is scrolled within the page.
const VIEWS: [(u32, &str, &str, bool); 8] = [
    (1200, "screen", "light", true),
    (1200, "screen", "dark", true),
    (700, "screen", "light", true),
    (700, "screen", "dark", true),
    (420, "screen", "light", false),
    (420, "screen", "dark", false),
    (PAPER.0, "print", "light", true),
    (PAPER.0, "print", "dark", true),
];

/// What is wrong with how a page lies in its window: what sticks out of it, texts that touch, texts and marks outside their
/// picture, pictures without a size or without anything to see, headings with nothing below.
const LAYOUT: &str = "((fits, paper) => {
    const wrong = [], root = document.documentElement;
    if (root.scrollWidth > innerWidth) wrong.push(`page: ${root.scrollWidth} of ${innerWidth}`);
    for (const heading of document.querySelectorAll('h2'))
        if (!heading.nextElementSibling || heading.nextElementSibling.matches('h2')) wrong.push(`nothing below ${heading.textContent}`);
    if (fits) for (const box of document.querySelectorAll('.table, .picture'))
        if (box.scrollWidth > box.clientWidth + 1) wrong.push(`${box.className}: ${box.scrollWidth} of ${box.clientWidth}: ${box.textContent.slice(0, 60)}`);
    for (const table of document.querySelectorAll('table')) for (const row of table.querySelectorAll('tbody tr'))
        if (row.children.length != table.querySelectorAll('thead th').length) wrong.push(`${row.textContent}: ${row.children.length} cells`);
    for (const figure of document.querySelectorAll('figure.chart')) {
        const name = figure.querySelector('h3').textContent, svg = figure.querySelector('.picture svg');
        const frame = svg.getBoundingClientRect();
        if (frame.width < 300 || frame.height < 60) wrong.push(`${name}: ${frame.width} x ${frame.height}`);
        if (paper && frame.bottom - figure.getBoundingClientRect().top > paper) wrong.push(`${name}: higher than a sheet`);
        const outside = box => box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
        const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
        for (const [text, box] of texts) {
            if (box.width == 0) wrong.push(`${name}: ${text} has no size`);
            if (outside(box)) wrong.push(`${name}: ${text} is outside`);
            if (/NaN|undefined|inf/.test(text)) wrong.push(`${name}: ${text}`);
        }
        texts.forEach(([one, a], index) => texts.slice(index + 1).forEach(([other, b]) => {
            const touch = a.left < b.right - .5 && b.left < a.right - .5 && a.top < b.bottom - .5 && b.top < a.bottom - .5;
            if (touch) wrong.push(`${name}: ${one} touches ${other}`);
        }));
        if (!svg.querySelector('.mark, .empty')) wrong.push(`${name}: nothing to see`);
        for (const mark of svg.querySelectorAll('.mark')) {
            const box = mark.getBoundingClientRect();
            if (outside(box)) wrong.push(`${name}: a mark is outside`);
            if (box.width == 0 && box.height == 0) wrong.push(`${name}: a mark has no size`);
        }
    }
    return wrong;
})";

/// The background, and the contrast of the colours that say something with it.
const COLOURS: &str = "(() => {
    const probe = document.body.appendChild(document.createElement('i'));
    const luminance = name => {
        probe.style.color = `var(${name})`;
        const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255);
        const [r, g, b] = parts.map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const contrast = name => {
        const [a, b] = [luminance(name), luminance('--paper')];
        return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    };
    const lowest = names => Math.min(...names.map(contrast));
    const answer = {
        background: getComputedStyle(document.body).backgroundColor,
        text: lowest(['--ink', '--soft']),
        marks: lowest(['--c0', '--c1', '--c2', '--c3', '--c4', '--c5', '--loss']),
    };
    probe.remove();
    return answer;
})()";

/// A page open in a browser of its own.
pub struct Opened {
    browser: Browser,
    path: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Opened {
    /// Opens a file.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let mut opened = Self { browser: Browser::start(), path: path.as_ref().to_owned(), _folder: None };
        opened.show(1200, "screen", "light");
        opened
    }

    /// Opens a page that is in no file yet.
    pub fn of(html: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        std::fs::write(&path, html).unwrap();
        Self { _folder: Some(folder), ..Self::new(path) }
    }

    /// Opens it anew, and checks that it asks for nothing but itself and has no complaint.
    pub fn show(&mut self, width: u32, medium: &str, scheme: &str) {
        self.browser.show(width, medium, scheme);
        let (requests, console) = self.browser.open(&self.path);
        assert_eq!(requests, [format!("file://{}", self.path.canonicalize().unwrap().display())]);
        assert!(console.is_empty(), "{console:?}");
    }

    pub fn value(&mut self, expression: &str) -> Value {
        self.browser.evaluate(expression)
    }

    pub fn count(&mut self, selector: &str) -> u64 {
        self.value(&format!("document.querySelectorAll({selector:?}).length")).as_u64().unwrap()
    }

    /// The kinds of its pictures, in their order.
    pub fn kinds(&mut self) -> Vec<String> {
        let kinds = self.value("[...document.querySelectorAll('figure.chart')].map(figure => figure.classList[1])");
        kinds.as_array().unwrap().iter().map(|kind| kind.as_str().unwrap().to_owned()).collect()
    }

    /// Nothing is wrong with how it lies in the window as it is now.
    pub fn lies_right(&mut self) {
        assert_eq!(self.value(&format!("{LAYOUT}(true, 0)")), json!([]));
    }

    /// It has these pictures, and is readable in every window, light and dark, and on paper.
    pub fn looks_right(&mut self, kinds: &[&str]) {
        assert_eq!(self.kinds(), kinds);
        let mut backgrounds = Vec::new();
        for (width, medium, scheme, fits) in VIEWS {
            self.show(width, medium, scheme);
            let sheet = if medium == "print" { PAPER.1 } else { 0 };
            assert_eq!(self.value(&format!("{LAYOUT}({fits}, {sheet})")), json!([]), "{width} {medium} {scheme}");
            let selector = "figure.chart .picture svg[role=img] > title + desc";
            assert_eq!(self.count(selector), kinds.len() as u64, "{width} {medium} {scheme}");
            let colours = self.value(COLOURS);
            // As WCAG 2 has it: 4.5 for text, 3 for graphics.
            assert!(
                colours["text"].as_f64() >= Some(4.5) && colours["marks"].as_f64() >= Some(3.0),
                "{scheme}: {colours}"
            );
            backgrounds.push(colours["background"].as_str().unwrap().to_owned());
        }
        let dark = backgrounds[1].clone();
        assert_ne!(dark, WHITE);
        assert_eq!(
            backgrounds,
            [WHITE, &dark, WHITE, &dark, WHITE, &dark, WHITE, WHITE],
            "light and dark are as asked for, and print is light"
        );
        self.prints(kinds.len());
    }

    /// As a document it has sheets enough for all of it, and none for nothing.
    fn prints(&mut self, charts: usize) {
        self.show(PAPER.0, "print", "light");
        let height = self.value("document.documentElement.scrollHeight").as_f64().unwrap();
        let needed = (height / f64::from(PAPER.1)).ceil() as usize;
        let document = self.browser.pdf();
        assert!(document.starts_with(b"%PDF-"));
        let is_sheet = |at: &[u8]| at.starts_with(b"/Type /Page\n");
        let sheets = document.windows(12).filter(|at| is_sheet(at)).count();
        // What is not to be broken goes to the next sheet: at worst each picture leaves half of one free.
        assert!((needed..=needed + charts.div_ceil(2) + 1).contains(&sheets), "{sheets} sheets for {needed}");
    }
}
