//! The configuration as a whole: every message, inheritance, recorded files, and what holds for any text.

extern crate std;

use super::*;
use alloc::format;
use alloc::string::ToString as _;

/// Cases of `=== title`, the text of a file, `---` and what is said about it on node `a`.
const MESSAGES: &str = include_str!("messages.txt");

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn rendered(text: &str) -> String {
    let outcome = load(text, &node("a"));
    let has_errors = outcome.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    assert_eq!(outcome.config.is_none(), has_errors);
    let lines: Vec<_> = outcome.diagnostics.iter().map(|diagnostic| diagnostic.render("f", text) + "\n").collect();
    lines.join("")
}

/// After a message was changed on purpose: BLESS=1 cargo test -p hastmon-core config, then read the difference.
#[test]
fn every_message_is_worded_and_placed_as_recorded() {
    let mut actual = String::new();
    for case in MESSAGES.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let text = rest.split_once("---\n").map_or(rest, |(text, _)| text);
        actual += &format!("=== {title}\n{text}---\n{}", rendered(text));
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/messages.txt"), &actual).unwrap();
    } else {
        for (expected, actual) in MESSAGES.split("=== ").zip(actual.split("=== ")) {
            assert_eq!(expected, actual);
        }
    }
}
