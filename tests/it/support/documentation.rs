//! Configurations in the documentation.

/// The configuration in the fenced block after `<!-- file: NAME -->` in a document of the folder `docs`.
pub(crate) fn documented(document: &str, file: &str) -> String {
    let path = format!("{}/docs/{document}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let marker = format!("<!-- file: {file} -->");
    let (_, after) = text.split_once(&marker).unwrap_or_else(|| panic!("{path} has no {marker}"));
    let (_, block) = after.split_once("```").unwrap();
    let (_, block) = block.split_once('\n').unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Replaces ports of a configuration: after a colon as in nginx's configuration, or as a setting as in Envoy's.
pub(crate) fn replace_ports(config: String, ports: &[(u16, u16)]) -> String {
    ports.iter().fold(config, |config, (documented, own)| {
        let replaced = [":", "port_value: "].into_iter().fold(config.clone(), |config, before| {
            config.replace(&format!("{before}{documented}"), &format!("{before}{own}"))
        });
        assert_ne!(replaced, config, "port {documented} is in the configuration");
        replaced
    })
}

/// A fenced block of a document.
#[derive(Debug)]
pub(crate) struct Block {
    /// The line of its text in the document, from 1.
    pub(crate) line: usize,
    pub(crate) language: String,
    pub(crate) text: String,
    /// Whether only empty lines are between this block and the one before.
    pub(crate) is_adjacent: bool,
}

/// The fenced blocks of a document, by its path from the root of the repository.
pub(crate) fn blocks(document: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(format!("{}/{document}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let (mut is_open, mut is_adjacent) = (false, false);
    for (index, line) in text.lines().enumerate() {
        match (line.trim().strip_prefix("```"), is_open) {
            (Some(language), false) => {
                let (language, text) = (language.to_owned(), String::new());
                blocks.push(Block { line: index + 2, language, text, is_adjacent });
                is_open = true;
            }
            (Some(_), true) => (is_open, is_adjacent) = (false, true),
            (None, true) => blocks.last_mut().unwrap().text.extend([line, "\n"]),
            (None, false) => is_adjacent &= line.trim().is_empty(),
        }
    }
    assert!(!is_open, "{document} ends within a block");
    blocks
}
