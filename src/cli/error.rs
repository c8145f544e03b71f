//! A wrong command line, said in one line.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error as _;
use std::ffi::OsStr;
use std::fmt::Write as _;

/// A wrong command line. `Display` is one line without the program's name: which flag, and what it accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}{}", help.map(|command| format!(" (see {command} --help)")).unwrap_or_default())]
pub struct UsageError {
    line: String,
    /// Whose help says what goes where, if that is what is missing.
    help: Option<&'static str>,
}

const MEASUREMENT: &str = "xdprobe";

impl UsageError {
    /// What the program exits with.
    pub const EXIT_CODE: u8 = 2;

    pub(super) fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), help: None }
    }

    /// A flag with a value that is not allowed.
    pub(super) fn value(flag: &str, value: impl AsRef<OsStr>, must: impl std::fmt::Display) -> Self {
        Self::new(format!("{flag} {}: {must}", shown(value.as_ref())))
    }

    /// Something is missing or too much, and the help says what goes where.
    pub(super) fn see_help(line: impl std::fmt::Display) -> Self {
        Self { line: line.to_string(), help: Some(MEASUREMENT) }
    }

    /// The same of a subcommand, which has a help of its own: "xdprobe caps".
    pub(super) fn of(self, command: &'static str) -> Self {
        Self { help: self.help.and(Some(command)), ..self }
    }

    /// A word that is one of the subcommands' names all but a typing error, or that of a flag without its hyphens.
    pub(super) fn mistyped_command(
        word: &OsStr,
        commands: impl IntoIterator<Item = &'static str>,
        flags: &[&'static str],
    ) -> Option<Self> {
        let typed = shown(word);
        let flag = |name: &str| flags.iter().find(|flag| flag.strip_prefix("--") == Some(name));
        let meant_flag = |flag| Self::see_help(format_args!("there is no subcommand {typed}; did you mean {flag}?"));
        if let Some(flag) = flag(&typed) {
            return Some(meant_flag(flag));
        }
        if typed.starts_with('-') {
            return None;
        }
        // clap knows which names are close, and names the closest last.
        let names = commands.into_iter().chain(flags.iter().filter_map(|flag| flag.strip_prefix("--")));
        let all = Command::new(MEASUREMENT).subcommands(names.map(Command::new));
        let error = all.disable_help_subcommand(true).try_get_matches_from([OsStr::new(MEASUREMENT), word]).err()?;
        let meant = texts(&error, ContextKind::SuggestedSubcommand).pop()?;
        if let Some(flag) = flag(&meant) {
            return Some(meant_flag(flag));
        }
        Some(Self::see_help(format_args!(
            "there is no subcommand {typed}; did you mean {meant}? A host needs --client"
        )))
    }

    /// clap's error, of several lines, as one. `command` is the one that it is about.
    pub(super) fn from_clap(error: &clap::Error, command: &Command) -> Self {
        let argument = text(error, ContextKind::InvalidArg);
        let value = text(error, ContextKind::InvalidValue);
        // "--ping-size <bytes>" → "--ping-size"
        let flag = argument.split([' ', '=']).next().unwrap_or_default();
        match error.kind() {
            ErrorKind::UnknownArgument => Self::unknown(error, &argument, command),
            ErrorKind::InvalidValue if value.is_empty() => {
                let name = argument.split_once(' ').map_or("", |(_, name)| name);
                Self::see_help(format_args!("{flag} needs a value: {name}"))
            }
            ErrorKind::InvalidValue => {
                let valid = texts(error, ContextKind::ValidValue);
                Self::value(flag, &value, format_args!("must be {}", either(&valid)))
            }
            ErrorKind::ValueValidation => match error.source() {
                Some(reason) => Self::value(flag, &value, reason),
                None => Self::value(flag, &value, "is not valid"),
            },
            ErrorKind::TooManyValues => Self::see_help(format_args!("{flag} takes no value, got {}", shown(&value))),
            ErrorKind::InvalidUtf8 => Self::see_help("an argument is not valid UTF-8"),
            // None of these flags leads to another kind; its first line says it all the same.
            _ => {
                let all = error.render().to_string();
                let first = all.lines().next().unwrap_or_default();
                Self::see_help(first.strip_prefix("error: ").unwrap_or(first))
            }
        }
    }

    fn unknown(error: &clap::Error, argument: &str, command: &Command) -> Self {
        let (name, _) = argument.split_once('=').unwrap_or((argument, ""));
        if !name.starts_with('-') {
            let word = shown(argument);
            let those = match command.get_positionals().count() {
                0 => "there are only flags",
                1 => "there is one host",
                _ => "there are two logs, and others behind --with",
            };
            return Self::see_help(format_args!("{word} is one argument too many: {those}"));
        }
        // clap calls an abbreviation unknown that more than one flag begins with.
        let longs = || command.get_arguments().filter_map(|arg| arg.get_long()).map(|long| format!("--{long}"));
        let possible: Vec<String> = longs().filter(|long| name.len() > 2 && long.starts_with(name)).collect();
        let name = shown(name);
        if possible.len() > 1 {
            return Self::new(format!("{name} is ambiguous: {}", either(&possible)));
        }
        let program = command.get_bin_name().unwrap_or(command.get_name());
        // "-- name" is how clap says that it may be a value: of a sub-command's hidden argument, which nobody can type. And what
        // stands for nanoprobe's abbreviations is no name that somebody meant.
        let suggested = texts(error, ContextKind::SuggestedArg);
        let is_name = |suggestion: &&String| longs().any(|long| long == **suggestion);
        match suggested.iter().find(is_name) {
            Some(suggestion) => {
                Self::see_help(format_args!("{name} is no flag of {program}; did you mean {suggestion}?"))
            }
            None => Self::see_help(format_args!("{name} is no flag of {program}")),
        }
    }
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> String {
    texts(error, kind).into_iter().next().unwrap_or_default()
}

/// "a, b or c"
fn either(names: &[String]) -> String {
    let mut list = String::new();
    for (index, name) in names.iter().enumerate() {
        let between = match index {
            0 => "",
            _ if index + 1 == names.len() => " or ",
            _ => ", ",
        };
        // Writing to a String cannot fail.
        let _ = write!(list, "{between}{name}");
    }
    list
}

/// What was typed, on one line: in quotes where it is empty or has blanks or control characters.
pub(super) fn shown(typed: impl AsRef<OsStr>) -> String {
    let typed = typed.as_ref().to_string_lossy();
    if typed.is_empty() || typed.chars().any(|c| c.is_whitespace() || c.is_control()) {
        format!("{typed:?}")
    } else {
        typed.into_owned()
    }
}
