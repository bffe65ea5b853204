//! `docs/cli-reference.md`: every command with its arguments, from the definition of the command line.

use std::fmt::Write;

use clap::{Arg, Command};
use keygate_test_servers::check_document;

use super::markdown::{code, head, list, row};

const INTRODUCTION: &str = "# Command line reference

Every command of `keygate`. This file is generated from the definition of the command line (`make documents`). Examples, formats of the
output and the connection to the admin API: [command line](cli.md).

## Exit codes

| code | meaning |
| --- | --- |
| 0 | success |
| 1 | any error: of the usage, of the configuration, of the API, of the connection; also what a command below says |
| 130 | `serve` and `dev`: a second signal has ended the process at once |

";

fn document() -> String {
    let mut command = crate::cli::definition().disable_help_subcommand(true);
    command.build();
    let mut text = INTRODUCTION.to_owned();
    let globals = own(&command, &[]);
    write!(text, "## Options of every command\n\n{}", table(&globals)).unwrap();
    let names = ids(&globals);
    for command in command.get_subcommands_mut() {
        describe(command, 2, &names, &mut text);
    }
    text
}

/// The arguments of a command without those that a command above it has.
fn own<'a>(command: &'a Command, inherited: &[String]) -> Vec<&'a Arg> {
    let is_own =
        |argument: &&Arg| !argument.is_hide_set() && !inherited.iter().any(|id| id == argument.get_id().as_str());
    command.get_arguments().filter(is_own).collect()
}

fn ids(arguments: &[&Arg]) -> Vec<String> {
    arguments.iter().map(|argument| argument.get_id().to_string()).collect()
}

/// Adds a command and those below it. Options that its commands have as well are with it only.
fn describe(command: &mut Command, level: usize, inherited: &[String], text: &mut String) {
    if command.is_hide_set() {
        return;
    }
    let name = command.get_bin_name().unwrap_or_default().to_owned();
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    writeln!(text, "\n{} {name}\n\n{about}.", "#".repeat(level)).unwrap();
    let aliases: Vec<_> = command.get_visible_aliases().map(code).collect();
    if !aliases.is_empty() {
        writeln!(text, "Alias: {}.", list(aliases)).unwrap();
    }
    if !command.has_subcommands() {
        let usage = command.render_usage().to_string();
        writeln!(text, "\n```text\n{}\n```", usage.trim_start_matches("Usage: ").trim()).unwrap();
    }
    let arguments = own(command, inherited);
    if !arguments.is_empty() {
        write!(text, "\n{}", table(&arguments)).unwrap();
    }
    let inherited = [inherited, &ids(&arguments)].concat();
    for command in command.get_subcommands_mut() {
        describe(command, level.min(3) + 1, &inherited, text);
    }
}

fn table(arguments: &[&Arg]) -> String {
    let rows = arguments.iter().map(|argument| {
        let help = help(argument);
        // The help of some arguments names the variable itself, because it is read in another way.
        let (help, named) = match help.split_once(" [env: ") {
            Some((help, rest)) => (help, rest.trim_end_matches(']').to_owned()),
            None => (help.as_str(), String::new()),
        };
        let variable = argument.get_env().map_or(named, |name| name.to_string_lossy().into_owned());
        row(&[&spelling(argument), &default(argument), &variable, help])
    });
    format!("{}{}", head(&["argument", "default", "variable", "meaning"]), rows.collect::<String>())
}

/// How an argument is written, such as `-q`, `--quiet`.
fn spelling(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let names = if argument.get_action().takes_values() { names } else { &[] };
    let value = names.iter().map(|name| format!(" <{name}>")).collect::<Vec<_>>().concat();
    if argument.is_positional() {
        return code(value.trim());
    }
    let short = argument.get_short_and_visible_aliases().unwrap_or_default().into_iter();
    let long = argument.get_long_and_visible_aliases().unwrap_or_default().into_iter();
    let short = short.map(|name| format!("-{name}"));
    list(short.chain(long.map(|name| format!("--{name}"))).map(|name| code(&format!("{name}{value}"))))
}

fn default(argument: &Arg) -> String {
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| code(&value.to_string_lossy())).collect();
    if argument.is_required_set() {
        "required".to_owned()
    } else if argument.get_action().takes_values() {
        list(defaults)
    } else {
        String::new()
    }
}

/// The meaning, and the values that are allowed.
fn help(argument: &Arg) -> String {
    let mut text = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let values = argument.get_possible_values();
    let shown: Vec<_> = values.iter().filter(|value| !value.is_hide_set()).collect();
    if !shown.is_empty() && argument.get_action().takes_values() {
        write!(text, "; one of {}", list(shown.iter().map(|value| code(value.get_name())))).unwrap();
    }
    text
}

#[test]
fn generated_document_has_every_command() {
    check_document("docs/cli-reference.md", &document());
}
