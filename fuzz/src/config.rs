//! Any text as a configuration: diagnostics or a configuration that can be written down and read again.

use hastmon_core::config::{Config, MAX_FILE_LEN, NodeName, Secret, Severity, Shared, load};

/// This node has its full name in sections, or its short one.
const NODES: [&str; 2] = ["a", "b.example.org"];
/// A secret that stands nowhere by chance.
const SECRET: &str = "hunter2";

/// The text of a configuration, as one of two nodes reads it.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // Both at once would take twice as long, and find no more.
    let node = NODES[data.len() % NODES.len()];
    read(&text, &NodeName::new(node).expect("a valid name"));
}

fn read(text: &str, node: &NodeName) {
    let outcome = load(text, node);
    let mut shown = String::new();
    for diagnostic in &outcome.diagnostics {
        assert!(text.get(diagnostic.span.clone()).is_some(), "{:?} is no part of the text", diagnostic.span);
        shown.push_str(&diagnostic.render("hastmon.conf", text));
        let brief = diagnostic.brief("hastmon.conf", text);
        assert!(!brief.contains('\n'), "{brief}");
        shown.push_str(&brief);
    }
    assert!(!shown.contains(obeyed_by_a_terminal), "{shown:?}");
    let is_faulty = outcome.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    assert_eq!(outcome.config.is_none(), is_faulty, "a configuration or an error");
    let Some(config) = outcome.config else { return };

    let dump = config.dump();
    let holds_secret = |key: &hastmon_core::config::Key| {
        key.secret.as_bytes().windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
    };
    let mut keys = config.resources.iter().filter_map(|resource| resource.key.as_ref());
    if text.matches(SECRET).count() == 1 && keys.any(holds_secret) {
        assert!(!shown.contains(SECRET) && !dump.contains(SECRET), "a secret is shown");
    }
    // What many resources inherit is written out for each of them.
    if dump.len() > MAX_FILE_LEN {
        return;
    }
    let again = load(&dump, node);
    let faults: Vec<_> = again.diagnostics.iter().map(|diagnostic| diagnostic.render("dump", &dump)).collect();
    let Some(mut again) = again.config else { panic!("{}\n{dump}", faults.join("\n")) };
    assert_eq!(again.dump(), dump);
    // What a file says for all nodes cannot be told from a dump, which is of one of them.
    again.resources.iter_mut().for_each(|resource| resource.shared = Shared::default());
    assert_eq!(again, masked(config), "{dump}");
}

/// Control characters but newlines and tabs, and what changes the order of a line.
fn obeyed_by_a_terminal(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The configuration as a dump has it.
fn masked(mut config: Config) -> Config {
    config.resources.iter_mut().for_each(|resource| resource.shared = Shared::default());
    for key in config.resources.iter_mut().filter_map(|resource| resource.key.as_mut()) {
        key.secret = Secret::new(String::from("********").into());
    }
    config
}
