//! Comparison of what an example prints with what the document shows.

/// Compares the statuses of an example with its comments: `curl -i … # 401 credential_missing` gets the status and prints the code.
pub(super) fn check_statuses(place: &str, example: &str, printed: &str) {
    let comments = example.lines().filter(|line| line.trim_start().starts_with("curl -i"));
    let comments: Vec<_> = comments.filter_map(|line| line.rsplit_once("# ")).map(|(_, comment)| comment).collect();
    let expected: Vec<_> = comments.iter().filter_map(|comment| comment.get(..3)).collect();
    let statuses: Vec<_> = printed.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)).collect();
    assert_eq!(statuses, expected, "{place}: the statuses differ: {printed}");
    let codes =
        comments.iter().filter_map(|comment| comment.split_whitespace().nth(1)).filter(|word| word.contains('_'));
    codes.for_each(|code| assert!(printed.contains(code), "{place}: {code} is not printed: {printed}"));
}

/// Compares an output. Of JSON, the names of members are printed; of text, the lines, where numbers may differ and `…` stands for any text.
pub(super) fn check(place: &str, language: &str, documented: &str, printed: &str) {
    let missing = match language {
        "json" => member_names(documented).into_iter().find(|name| !printed.contains(name)),
        _ => documented.lines().find(|line| !printed.lines().any(|printed| is_line(line, printed))).map(str::to_owned),
    };
    assert!(missing.is_none(), "{place}: {missing:?} of the output is not printed: {printed}");
}

/// The names of the members of a JSON text, in quotes and with the colon.
fn member_names(json: &str) -> Vec<String> {
    let parts: Vec<_> = json.split('"').collect();
    let names = parts.windows(2).skip(1).step_by(2).filter(|pair| pair[1].starts_with(':'));
    names.map(|pair| format!("\"{}\":", pair[0])).collect()
}

fn is_line(documented: &str, printed: &str) -> bool {
    let printed = without_numbers(printed);
    let mut rest = printed.as_str();
    without_numbers(documented).split('…').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// The text with one space for each space and `0` for each number.
fn without_numbers(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_digit = |character: char| character.is_ascii_digit();
    let mut shortened = String::new();
    for character in text.chars().map(|character| if is_digit(character) { '0' } else { character }) {
        if !(character == '0' && shortened.ends_with('0')) {
            shortened.push(character);
        }
    }
    shortened
}

#[test]
fn output_with_another_word_or_member_differs() {
    let line = "Current Version: 12";
    assert!(is_line("Current Version: 3", line) && is_line("Current …: 3", line) && !is_line("Version: none", line));
    assert_eq!(member_names(r#"{"a":[{"b":"c:d"}],"e":"f"}"#), [r#""a":"#, r#""b":"#, r#""e":"#]);
}
