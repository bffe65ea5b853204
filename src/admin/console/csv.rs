//! Comma-separated values (RFC 4180) with a header row.

/// The rows, each with the names of the header and its values.
///
/// # Errors
/// What is wrong, with the number of the row.
pub(super) fn parse(text: &str) -> Result<Vec<Vec<(String, String)>>, String> {
    let mut rows = records(text.trim_start_matches('\u{feff}'))?.into_iter();
    let header: Vec<String> = rows.next().unwrap_or_default().iter().map(|name| name.trim().to_owned()).collect();
    let row = |(index, values): (usize, Vec<String>)| {
        if values.len() == header.len() {
            Ok(header.iter().cloned().zip(values).collect())
        } else {
            Err(format!("row {} has {} values, and the header has {}", index + 2, values.len(), header.len()))
        }
    };
    rows.enumerate().map(row).collect()
}

/// The values of each line. Lines without any value are left out.
fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut records = Vec::new();
    let (mut record, mut value) = (Vec::new(), String::new());
    let mut characters = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => value.push('"'),
            '"' if is_quoted => is_quoted = false,
            '"' if value.is_empty() => is_quoted = true,
            ',' if !is_quoted => record.push(std::mem::take(&mut value)),
            '\n' if !is_quoted => end(&mut records, &mut record, &mut value),
            '\r' if !is_quoted && characters.peek() == Some(&'\n') => {}
            character => value.push(character),
        }
    }
    if is_quoted {
        return Err("a quotation mark is not closed".to_owned());
    }
    end(&mut records, &mut record, &mut value);
    Ok(records)
}

fn end(records: &mut Vec<Vec<String>>, record: &mut Vec<String>, value: &mut String) {
    record.push(std::mem::take(value));
    let record = std::mem::take(record);
    if record.iter().any(|value| !value.is_empty()) {
        records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_may_have_commas_line_ends_and_quotation_marks() {
        let rows = parse("\u{feff}name,raw_key\r\n\"a, \"\"b\"\"\r\nc\",k\r\n\r\nd,\n").unwrap();
        let pairs = |name: &str, key: &str| vec![("name".to_owned(), name.to_owned()), ("raw_key".into(), key.into())];
        assert_eq!(rows, [pairs("a, \"b\"\r\nc", "k"), pairs("d", "")]);
    }

    #[test]
    fn row_of_another_length_is_an_error() {
        assert_eq!(parse("a,b\n1,2\n3\n").unwrap_err(), "row 3 has 1 values, and the header has 2");
        assert!(parse("a\n\"b").is_err());
        assert!(parse("").unwrap().is_empty() && parse("a,b\n").unwrap().is_empty());
    }
}
