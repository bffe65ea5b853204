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
