//! The table of raw requests: what Keygate and hyper make of each.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use keygate_test_servers::{ReadEnd, ReadRequest};

use super::super::cases;
use super::{Answer, LAXER, Readers, STRICTER};

/// How many bytes of a case are shown.
const SHOWN: usize = 120;

#[test]
fn each_raw_request_has_one_meaning_for_all_readers() {
    let readers = Readers::start();
    let mut record = String::new();
    let mut wrong = Vec::new();
    let (mut rejections, mut laxities) = (BTreeSet::new(), BTreeSet::new());
    let cases = cases::all();
    for case in &cases {
        let mut shown = case.raw[..case.raw.len().min(SHOWN)].escape_ascii().to_string();
        if case.raw.len() > SHOWN {
            let _ = write!(shown, "… ({} bytes)", case.raw.len());
        }
        let (outcome, (read, end)) = match readers.check(&case.raw) {
            Ok(found) => found,
            Err(error) => {
                wrong.push(format!("{shown}\n{error}"));
                continue;
            }
        };
        for request in outcome.forwarded.iter().skip(read.len()) {
            laxities.extend(LAXER.iter().filter(|(_, applies)| applies(&case.raw, request)).map(|(reason, _)| *reason));
        }
        let mut forwarded = outcome.forwarded.iter();
        let answers: Vec<_> = outcome
            .answers
            .iter()
            .map(|answer| match answer {
                Answer::Accepted => forwarded.next().map(summary).unwrap_or_default(),
                Answer::Rejected(status, detail) => {
                    rejections.insert(detail.clone());
                    format!("{status} {detail}")
                }
                Answer::RejectedByHyper(target) => format!("the upstream rejects {target}"),
            })
            .collect();
        let mut of_hyper: Vec<_> = read.iter().map(summary).collect();
        if end != ReadEnd::Closed {
            of_hyper.push(format!("{end:?}").to_ascii_lowercase());
        }
        let _ =
            writeln!(record, "{shown}\n    keygate: {}\n    hyper:   {}", answers.join(" | "), of_hyper.join(" | "));
    }
    assert!(wrong.is_empty(), "{} cases\n\n{}", wrong.len(), wrong.join("\n\n"));
    insta::assert_snapshot!(record);
    let unused: Vec<_> = STRICTER.iter().filter(|(detail, _)| !rejections.contains(*detail)).collect();
    assert!(unused.is_empty(), "no case has {unused:?}");
    let unused: Vec<_> = LAXER.iter().map(|(reason, _)| *reason).filter(|reason| !laxities.contains(reason)).collect();
    assert!(unused.is_empty(), "no case has {unused:?}");
}

/// Method, target and body, as one text.
fn summary(request: &ReadRequest) -> String {
    let body = request.body.escape_ascii();
    format!("{} {} {body}", request.method, request.target).trim_end().to_owned()
}
