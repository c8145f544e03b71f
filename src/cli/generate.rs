//! The man page and the shells' completions, made of the flags as they are, so that they cannot fall behind.
//!
//! Where they belong is the Makefile's business.

use super::args::{CAPS_ABOUT, EXAMPLES, EXIT_CODES, NOTES, REPORT_ABOUT};
use super::compare::COMPARE_ABOUT;
use super::sweep::SWEEP_ABOUT;
use super::{caps_command, command, compare_command, report_command, sweep_command};
use clap::{Arg, Command, ValueEnum, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use std::fmt::Write as _;
use std::io;

/// What `--generate` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Generate {
    Man,
    Bash,
    Zsh,
    Fish,
}

const DESCRIPTION: &str = "xdprobe measures network latency packet by packet. A client and a server exchange UDP pings \
    and pongs, and each of the moments at which a message was seen is written down: when it was sent, received, answered, \
    and the answer received. It speaks the protocol of nanoprobe and writes its log, so that either side can be the other \
    program, but sends and receives by way of AF_XDP sockets: an XDP program steers the packets of the measurement, and \
    nothing else, past the kernel's stack. Where AF_XDP cannot be had, --path kernel does the same over an ordinary socket. \
    xdprobe needs root, or the capabilities that it names when one is missing.";

/// An apostrophe that is one in every output: each part of a page begins with it, and needs it once.
const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The title. Then, lines break between words only, as a flag with a hyphen put into it is another flag; and where the
/// output has no µ it is a u, as groff would leave it out and make seconds of µs.
const HEAD: &str = concat!(
    ".TH XDPROBE 1 \"\" \"xdprobe ",
    env!("CARGO_PKG_VERSION"),
    "\" \"User Commands\"\n.nh\n.ad l\n.if \\n(.g .fchar \\[u00B5] u\n"
);

/// How clap spreads the values of a flag over the page, and how they fit on fewer lines.
const LISTS: [(&str, &str); 3] = [(".br\n\n.br\n", ".br\n"), (".RS 14\n", ".RS 7\n.PD 0\n"), (".RE\n", ".RE\n.PD\n")];

/// The text, which ends with a newline.
pub(super) fn text(what: Generate) -> String {
    let shell = match what {
        Generate::Man => return man_page(),
        Generate::Bash => Shell::Bash,
        Generate::Zsh => Shell::Zsh,
        Generate::Fish => Shell::Fish,
    };
    let without_files = |flag: Arg| {
        let is_open = flag.get_action().takes_values() && flag.get_possible_values().is_empty();
        // Neither numbers nor names of interfaces are files.
        if is_open && flag.get_value_hint() == ValueHint::Unknown { flag.value_hint(ValueHint::Other) } else { flag }
    };
    let caps = caps_command().mut_args(without_files);
    let others = [compare_command(), sweep_command(), report_command()].map(|command| command.mut_args(without_files));
    let mut command =
        command().mut_args(without_files).subcommands(others).subcommand(caps).disable_help_subcommand(true);
    rendered(|out| {
        clap_complete::generate(shell, &mut command, "xdprobe", out);
        Ok(())
    })
}

fn man_page() -> String {
    let command = command().about("measure network latency packet by packet").long_about(DESCRIPTION);
    let headings = headings(&command);
    let man = Man::new(command);
    let mut page = format!("{APOSTROPHE}{HEAD}");
    page += &rendered(|out| {
        man.render_name_section(out)?;
        man.render_synopsis_section(out)?;
        man.render_description_section(out)?;
        section("OPTIONS", notes).to_writer(out)
    });
    let mut options = rendered(|out| man.render_options_section(out));
    for (from, to) in LISTS {
        options = options.replace(from, to);
    }
    // clap makes each heading a section in capitals; as parts of one section they are easier to find and to read.
    let mut headings = headings.iter();
    for line in options.lines() {
        // Writing to a String cannot fail.
        let _ = match headings.as_slice().first() {
            Some(heading) if line.starts_with(".SH ") => {
                headings.next();
                writeln!(page, ".SS \"{heading}\"")
            }
            _ => writeln!(page, "{line}"),
        };
    }
    page += &rendered(|out| {
        section("COMMANDS", commands).to_writer(out)?;
        section("EXIT STATUS", exit_status).to_writer(out)?;
        section("EXAMPLES", examples).to_writer(out)?;
        section("SEE ALSO", see_also).to_writer(out)
    });
    ascii(&page)
}

/// The page in ASCII, so that it looks the same whatever encoding its reader takes it for.
fn ascii(page: &str) -> String {
    let mut ascii = String::with_capacity(page.len());
    for letter in page.chars() {
        if letter.is_ascii() {
            ascii.push(letter);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(ascii, "\\[u{:04X}]", u32::from(letter));
        }
    }
    ascii
}

/// The headings of the help, in its order.
fn headings(command: &Command) -> Vec<String> {
    let mut headings: Vec<String> = Vec::new();
    for heading in command.get_arguments().filter_map(|flag| flag.get_help_heading()) {
        if headings.iter().all(|known| known != heading) {
            headings.push(heading.to_owned());
        }
    }
    headings
}

fn section(name: &str, write: impl FnOnce(&mut Roff)) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [name]);
    write(&mut roff);
    roff
}

fn notes(roff: &mut Roff) {
    roff.text([roman(NOTES)]);
}

/// What there is beside the measurement.
fn commands(roff: &mut Roff) {
    let compare = [bold("xdprobe compare"), roman(" "), bold("--interface"), roman(" <nic> [options] <host>")];
    subcommand(roff, compare, COMPARE_ABOUT, &compare_command());
    let sweep = [
        bold("xdprobe sweep"),
        roman(" "),
        bold("--interface"),
        roman(" <nic> "),
        bold("--rates"),
        roman(" <list> [options] <host>"),
    ];
    subcommand(roff, sweep, SWEEP_ABOUT, &sweep_command());
    let caps = [bold("xdprobe caps"), roman(" "), bold("--interface"), roman(" <nic> ["), bold("--json"), roman("]")];
    subcommand(roff, caps, CAPS_ABOUT, &caps_command());
    let report = [bold("xdprobe report"), roman(" [options] <client.csv> [<server.csv>]")];
    subcommand(roff, report, REPORT_ABOUT, &report_command());
}

fn subcommand(roff: &mut Roff, usage: impl Into<Vec<Inline>>, about: &str, command: &Command) {
    roff.control("TP", ["4"]).text(usage).text([roman(format!("{about}."))]);
    let measurement = super::command();
    let is_known = |flag: &Arg| {
        let mut known = measurement.get_opts();
        known.any(|known| known.get_long() == flag.get_long() && known.get_help() == flag.get_help())
    };
    let mut shared = Vec::new();
    for flag in command.get_opts() {
        let (Some(long), Some(help)) = (flag.get_long(), flag.get_help()) else { continue };
        if is_known(flag) {
            shared.push(format!("--{long}"));
        } else {
            roff.control("br", []).text([bold(format!("--{long}")), roman(format!(": {help}"))]);
        }
    }
    if shared.len() > 1 {
        roff.control("br", []).text([roman(format!("As above: {}.", shared.join(", ")))]);
    }
}

fn exit_status(roff: &mut Roff) {
    for (code, meaning) in EXIT_CODES {
        roff.control("TP", ["4"]).text([bold(code)]).text([roman(meaning)]);
    }
}

fn examples(roff: &mut Roff) {
    for (what, line) in EXAMPLES {
        roff.control("PP", []).text([roman(what)]);
        roff.control("PP", []).control("RS", ["4"]).control("nf", []).text([bold(line)]);
        roff.control("fi", []).control("RE", []);
    }
}

fn see_also(roff: &mut Roff) {
    let pages: [[Inline; 2]; 3] = [("nanoprobe", "(1), "), ("ip-link", "(8), "), ("ethtool", "(8)")]
        .map(|(page, rest)| [bold(page), roman(rest)]);
    roff.text(pages.concat());
}

/// What is written to memory, as text; without the definition that each part of a page repeats.
fn rendered(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("memory takes everything");
    let text = String::from_utf8(bytes).expect("what is made of text is text");
    text.replace(APOSTROPHE, "")
}
