//! The page around the pictures.

use super::frame::{Picture, Px, WIDTH};
use super::{Chart, Page, Plot, Section, Table, cdf, histogram, lines, over_time, stages};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");

/// Columns that a narrow screen has no room for.
const WIDE: usize = 7;
/// Characters of a fact that has room beside others.
const LONG: usize = 30;

/// The browser itself refuses whatever would leave the file.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

pub(super) fn write(page: &Page) -> String {
    let mut charts = 0;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "xdprobe " (env!("CARGO_PKG_VERSION")) };
                link rel="icon" href="data:,";
                title { (page.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        h1 { (page.title) }
                        @if !page.subtitle.is_empty() { p class="subtitle" { (page.subtitle) } }
                    }
                    @if !page.facts.is_empty() {
                        dl class="facts" {
                            @for (name, value) in &page.facts { div class=[is_long(value).then_some("long")] { dt { (name) } dd { (words(value)) } } }
                        }
                    }
                    @for part in &page.sections { (section(part, &mut charts)) }
                }
                footer { "xdprobe " (env!("CARGO_PKG_VERSION")) }
            }
        }
    };
    markup.into_string()
}

/// A text in which no line is broken within a flag, as browsers do behind each hyphen.
fn words(text: &str) -> Markup {
    let is_flag = |word: &str| word.contains("--") && word.chars().count() <= LONG;
    html! {
        @for word in text.split_inclusive(' ') {
            @if is_flag(word) { span class="flag" { (word.trim_end_matches(' ')) } @if word.ends_with(' ') { " " } } @else { (word) }
        }
    }
}

/// A fact that takes a line of its own, such as a command.
fn is_long(value: &str) -> bool {
    value.chars().count() > LONG
}

fn section(section: &Section, charts: &mut usize) -> Markup {
    match section {
        Section::Heading(text) => html! { h2 { (text) } },
        Section::Text(text) => html! { p { (words(text)) } },
        Section::Note(text) => html! { p class="note" { (words(text)) } },
        Section::Table(part) => table(part),
        Section::Chart(part) => {
            *charts += 1;
            chart(part, *charts)
        }
    }
}

fn table(table: &Table) -> Markup {
    let class = |index: usize| table.columns.get(index).filter(|column| column.numeric).map(|_| "number");
    // On a narrow screen a row of a wide table becomes a list: its cells bring their column's name along.
    let wide = table.columns.len() >= WIDE;
    let head = |index: usize| table.columns.get(index).filter(|_| wide).map(|column| &column.name);
    html! {
        // It can be scrolled to by keyboard where the window is too narrow for it.
        div class=(if wide { "table wide" } else { "table" }) tabindex="0" role="region" aria-label=(table.caption) {
            table {
                @if !table.caption.is_empty() { caption { (table.caption) } }
                thead { tr {
                    @for (index, column) in table.columns.iter().enumerate() { th scope="col" class=[class(index)] { (column.name) } }
                } }
                tbody {
                    @for row in &table.rows { tr {
                        @for (index, cell) in row.iter().enumerate() {
                            @if index == 0 { th scope="row" class=[class(0)] { (cell) } } @else { td class=[class(index)] data-head=[head(index)] { (cell) } }
                        }
                    } }
                }
            }
        }
    }
}

fn chart(chart: &Chart, number: usize) -> Markup {
    let Picture { class, height, body, legend, description, table: numbers } = match &chart.plot {
        Plot::Histogram(plot) => histogram::draw(plot),
        Plot::Cdf(plot) => cdf::draw(plot),
        Plot::OverTime(plot) => over_time::draw(plot),
        Plot::Stages(plot) => stages::draw(plot),
        Plot::Lines(plot) => lines::draw(plot),
    };
    let (title, words) = (format!("chart-{number}-title"), format!("chart-{number}-description"));
    html! {
        figure id={ "chart-" (number) } class={ "chart " (class) } {
            figcaption {
                h3 { (chart.title) }
                @if !chart.caption.is_empty() { p { (chart.caption) } }
            }
            ul class="legend" {
                @for entry in &legend { li { (entry.sign) span { (entry.text) } } }
            }
            div class="picture" {
                svg viewBox={ "0 0 " (Px(WIDTH)) " " (Px(height)) } role="img" aria-labelledby={ (title) " " (words) } {
                    title id=(title) { (chart.title) }
                    desc id=(words) { (description) }
                    (body)
                }
            }
            @if let Some(numbers) = &numbers { (table(numbers)) }
        }
    }
}
