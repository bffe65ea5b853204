//! Circles of files inside a folder: file A uses an item that file B defines, and B, directly or through others, one of A.
//!
//! An import is resolved to the file that defines the item: through re-exports, down the module tree. A `mod.rs` that only declares
//! and re-exports defines nothing, so it is in no circle.

use std::collections::{BTreeMap, BTreeSet};

/// The path of a module from the crate's root.
type Module = Vec<String>;

/// The sources of a crate by module, without test code.
#[derive(Default)]
pub(super) struct Sources {
    files: BTreeMap<Module, File>,
}

#[derive(Default)]
struct File {
    /// Paths that the code uses, relative to its module.
    uses: Vec<Vec<String>>,
    /// Paths of re-exports by their last segment.
    reexports: BTreeMap<String, Vec<String>>,
}

impl Sources {
    /// Adds the code of a module. `code` has no comments, no string contents and no test modules.
    pub(super) fn add(&mut self, module: &[&str], code: &str) {
        let mut file = File::default();
        let mut rest = String::new();
        for statement in code.split_inclusive(';') {
            let Some((before, tree)) = split_use(statement) else {
                rest.push_str(statement);
                continue;
            };
            rest.push_str(before.0);
            for path in expand(tree) {
                if before.1 {
                    file.reexports.insert(path.last().cloned().unwrap_or_default(), path);
                } else {
                    file.uses.push(path);
                }
            }
        }
        if defines_items(&rest) {
            file.uses.extend(file.reexports.values().cloned());
        }
        file.uses.extend(inline_paths(&rest));
        self.files.insert(module.iter().map(ToString::to_string).collect(), file);
    }

    /// The circles: groups of modules that depend on each other.
    pub(super) fn circles(&self) -> Vec<BTreeSet<String>> {
        let edges: BTreeMap<&Module, BTreeSet<&Module>> =
            self.files.iter().map(|(module, file)| (module, self.dependencies(module, file))).collect();
        let reached: BTreeMap<_, _> = edges.keys().map(|module| (*module, reachable(&edges, module))).collect();
        let mut circles: Vec<BTreeSet<String>> = Vec::new();
        for (module, others) in &reached {
            let mutual = others.iter().filter(|other| **other != *module && reached[*other].contains(module));
            let circle: BTreeSet<String> = mutual.chain([module]).map(|module| module.join("/")).collect();
            if circle.len() > 1 && !circles.contains(&circle) {
                circles.push(circle);
            }
        }
        circles
    }

    /// The modules of the same folder that define what a file uses.
    fn dependencies(&self, module: &Module, file: &File) -> BTreeSet<&Module> {
        let used = file.uses.iter().filter_map(|path| self.resolve(module, path, 0));
        used.filter(|other| *other != module && other.first() == module.first()).collect()
    }

    /// The module that defines the item of a path, as seen from `base`.
    fn resolve(&self, base: &Module, path: &[String], depth: usize) -> Option<&Module> {
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        let (mut current, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (base.clone(), &path[1..]),
            "super" => (base[..base.len().checked_sub(supers)?].to_vec(), &path[supers..]),
            first if self.files.contains_key(&child(base, first)) => (base.clone(), path),
            _ => return None,
        };
        while let Some((segment, tail)) = rest.split_first() {
            let inner = child(&current, segment);
            if self.files.contains_key(&inner) {
                (current, rest) = (inner, tail);
                continue;
            }
            let reexport = self.files.get(&current).and_then(|file| file.reexports.get(segment));
            return match reexport.filter(|_| depth < 10) {
                Some(target) => self.resolve(&current, &[target, tail].concat(), depth + 1),
                None => self.files.get_key_value(&current).map(|(module, _)| module),
            };
        }
        self.files.get_key_value(&current).map(|(module, _)| module)
    }
}

fn child(module: &Module, name: &str) -> Module {
    [module, &[name.to_owned()][..]].concat()
}

fn reachable<'m>(edges: &BTreeMap<&'m Module, BTreeSet<&'m Module>>, from: &'m Module) -> BTreeSet<&'m Module> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        open.extend(edges[module].iter().filter(|next| found.insert(**next)));
    }
    found
}

/// Splits a statement that ends in a `use` declaration: the code before it, whether it is public, and its tree.
fn split_use(statement: &str) -> Option<((&str, bool), &str)> {
    let is_start = |(at, _): &(usize, &str)| {
        !statement[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
    };
    let (at, _) = statement.match_indices("use ").filter(is_start).last()?;
    let before = statement[..at].trim_end();
    let is_public = before.ends_with("pub") || (before.ends_with(')') && before.contains("pub("));
    let tree = statement[at + "use ".len()..].trim_end_matches(';').trim();
    Some(((&statement[..at], is_public), tree))
}

/// The paths of a `use` tree.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.split("::").map(|segment| segment.trim().to_owned()).collect()];
    };
    let prefix: Vec<String> = tree[..open]
        .split("::")
        .map(|segment| segment.trim().to_owned())
        .filter(|segment| !segment.is_empty())
        .collect();
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(expand).map(|path| [&prefix[..], &path[..]].concat()).collect()
}

/// Paths of at least two segments outside of `use` declarations and visibilities.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let (first, rest) = code.split_once("pub(in ").unwrap_or((code, ""));
    let others = rest.split("pub(in ").filter_map(|part| part.split_once(')')).map(|(_, code)| code);
    std::iter::once(first).chain(others).flat_map(paths).collect()
}

fn paths(code: &str) -> Vec<Vec<String>> {
    let is_path = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    let words = code.split(|character| !is_path(character)).filter(|word| word.contains("::"));
    let is_incomplete = |path: &Vec<String>| path.len() < 2 || path.iter().any(String::is_empty);
    let paths = words.map(|word| word.trim_matches(':').split("::").map(ToOwned::to_owned).collect());
    paths.filter(|path| !is_incomplete(path)).collect()
}

/// Whether code has items besides module declarations.
fn defines_items(code: &str) -> bool {
    const KEYWORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "impl", "type", "const", "static"];
    let is_item = |line: &str| {
        let words = line.split(|character: char| !(character.is_alphanumeric() || character == '_'));
        let mut words = words.filter(|word| !matches!(*word, "" | "pub" | "async" | "crate" | "in" | "super"));
        words.next().is_some_and(|word| KEYWORDS.contains(&word))
    };
    code.lines().any(is_item)
}

#[test]
fn circle_through_a_reexport_is_found() {
    let mut sources = Sources::default();
    sources.add(&["a"], "mod b;\nmod c;\nmod d;\npub use b::B;\npub(crate) use c::C;\n");
    sources.add(&["a", "b"], "use super::C;\npub struct B(C);\n");
    sources.add(&["a", "c"], "use super::{d::{D, E}, other};\npub struct C(D);\n");
    sources.add(&["a", "d"], "pub fn f() { crate::a::B::new() }\n");
    sources.add(&["a", "e"], "use super::B;\npub(in crate::a) fn g() {}\n");
    let circle = ["a/b", "a/c", "a/d"].map(str::to_owned).into();
    assert_eq!(sources.circles(), [circle]);
}

#[test]
fn module_root_with_definitions_is_part_of_a_circle() {
    let mut sources = Sources::default();
    sources.add(&["a"], "mod b;\npub use b::B;\npub struct A(B);\n");
    sources.add(&["a", "b"], "use super::A;\npub enum B {}\n");
    assert_eq!(sources.circles().len(), 1);
    sources.add(&["a"], "mod b;\nmod c;\npub use b::B;\npub use c::A;\n");
    sources.add(&["a", "c"], "pub struct A;\n");
    assert!(sources.circles().is_empty());
}
