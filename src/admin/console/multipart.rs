//! Forms with files: `multipart/form-data` (RFC 7578), from a body that is in memory.

/// The longest boundary (RFC 2046 section 5.1.1).
const BOUNDARY_MAX: usize = 70;
/// The maximum number of parts.
const PARTS_MAX: usize = 100;

/// The boundary of a content type; `None` for another type.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    (1..=BOUNDARY_MAX).contains(&boundary.len()).then_some(boundary)
}

/// The names and the values of the parts. A file is a value; bytes that are not UTF-8 are replaced.
///
/// # Errors
/// What is wrong.
pub(super) fn parse(body: &[u8], boundary: &str) -> Result<Vec<(String, String)>, &'static str> {
    let delimiter = format!("--{boundary}");
    let mut rest = body.strip_prefix(delimiter.as_bytes()).ok_or("the form does not begin with its boundary")?;
    let end = format!("\r\n{delimiter}");
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        if parts.len() == PARTS_MAX {
            return Err("the form has too many fields");
        }
        let part = rest.strip_prefix(b"\r\n").ok_or("a field of the form is not complete")?;
        let length = find(part, end.as_bytes()).ok_or("the form is not complete")?;
        parts.push(read_part(&part[..length])?);
        rest = &part[length + end.len()..];
    }
    Ok(parts)
}

fn read_part(part: &[u8]) -> Result<(String, String), &'static str> {
    let head = find(part, b"\r\n\r\n").ok_or("a field of the form has no name")?;
    let headers = String::from_utf8_lossy(&part[..head]);
    let name = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.trim().eq_ignore_ascii_case("content-disposition") { parameter(value, "name") } else { None }
    });
    let value = String::from_utf8_lossy(&part[head + 4..]).into_owned();
    Ok((name.ok_or("a field of the form has no name")?, value))
}

/// The value of a parameter, with or without quotation marks.
fn parameter(text: &str, name: &str) -> Option<String> {
    text.split(';').find_map(|parameter| {
        let (found, value) = parameter.split_once('=')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_files_are_read() {
        let boundary = boundary("multipart/form-data; boundary=\"x-y\"").unwrap();
        let body = "--x-y\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nabc\r\n--x-y\r\n\
                    Content-Disposition: form-data; name=\"file\"; filename=\"k.csv\"\r\nContent-Type: text/csv\r\n\r\na,b\r\n1,2\r\n\r\n--x-y--\r\n";
        let parts = parse(body.as_bytes(), &boundary).unwrap();
        assert_eq!(parts, [("token".into(), "abc".into()), ("file".into(), "a,b\r\n1,2\r\n".to_owned())]);
    }

    #[test]
    fn other_types_and_incomplete_forms_are_not_read() {
        for text in ["text/plain", "multipart/form-data", "multipart/form-data; boundary=", "application/x; boundary=a"]
        {
            assert_eq!(boundary(text), None, "{text}");
        }
        assert_eq!(boundary(&format!("multipart/form-data; boundary={}", "b".repeat(71))), None);
        let field = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n";
        assert_eq!(parse(format!("{field}--b--").as_bytes(), "b").unwrap(), [("a".into(), "v".to_owned())]);
        for text in
            ["", "--", "--b", field, "--b\r\n\r\nv\r\n--b--", "--b\r\nContent-Disposition: form-data\r\n\r\nv\r\n--b--"]
        {
            assert!(parse(text.as_bytes(), "b").is_err(), "{text:?}");
        }
        assert!(parse(format!("{}--b--", field.repeat(101)).as_bytes(), "b").is_err());
    }
}
