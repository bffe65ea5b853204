//! Suggestions for unknown subcommands: the full path of a command of that name in another group.

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Replaces clap's suggestion by the full paths of the commands whose names are nearest to the unknown one. clap itself
/// compares only with the commands of the same group; its suggestion stays if one of these is as near.
pub(super) fn add_full_paths(error: &mut Error, root: &Command, arguments: impl Iterator<Item = String>) {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let group = group_of(root, arguments, unknown);
    let mut found = Vec::new();
    collect(root, root.get_name(), unknown, &mut found);
    let Some(least) = found.iter().map(|(distance, _)| *distance).min() else { return };
    let paths: Vec<_> = found.into_iter().filter(|(distance, _)| *distance == least).map(|(_, path)| path).collect();
    let in_group = |path: &String| path.rsplit_once(' ').is_some_and(|(parent, _)| parent == group);
    if !paths.iter().any(in_group) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(paths));
    }
}

/// The path of the group in which the unknown name was looked up.
fn group_of(root: &Command, arguments: impl Iterator<Item = String>, unknown: &str) -> String {
    let (mut group, mut path) = (root, root.get_name().to_owned());
    for argument in arguments.take_while(|argument| argument != unknown) {
        if let Some(command) = group.find_subcommand(&argument) {
            group = command;
            path = format!("{path} {}", command.get_name());
        }
    }
    path
}

/// All commands below a group whose names are similar enough to be meant, each with its edit distance and full path.
fn collect(group: &Command, path: &str, unknown: &str, found: &mut Vec<(usize, String)>) {
    for command in group.get_subcommands() {
        let path = format!("{path} {}", command.get_name());
        let names = std::iter::once(command.get_name()).chain(command.get_all_aliases());
        let distance = names.map(|name| strsim::osa_distance(unknown, name)).min();
        found.extend(
            distance.filter(|distance| *distance <= unknown.len() / 4).map(|distance| (distance, path.clone())),
        );
        collect(command, &path, unknown, found);
    }
}
