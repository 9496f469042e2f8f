//! Traffic and output recorded from originals, as the tests read it.

use std::path::Path;

use serde_json::Value as Json;

use super::peer::{Fields, Value, decode, encode};

/// One file of recordings.
pub(crate) fn load(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/recorded").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Bytes of a recorded message.
pub(crate) fn bytes(message: &Json) -> Vec<u8> {
    let hex = message["hex"].as_str().expect("a recorded message has its bytes");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The same message with padding of zeros (originals send what lay in memory) and with some texts replaced.
pub(crate) fn normal(message: &[u8], replace: &[(&str, &str)]) -> Vec<u8> {
    let mut all: Fields = decode(message);
    for (_, value) in &mut all {
        if let Value::Text(text) = value {
            for (from, to) in replace {
                *text = text.replace(from, to);
            }
        }
    }
    encode(&all)
}

/// What `hastmonctl COMMAND` printed on a node: standard output, the first time that it was recorded.
pub(crate) fn printed(recording: &Json, node: &str, command: &str) -> String {
    let all = recording["control"].as_array().unwrap();
    let found = all.iter().find(|entry| entry["on"] == node && entry["command"] == command);
    found.expect("it was recorded")["stdout"].as_str().unwrap().to_owned()
}

/// What a client sent on the `nth` recorded connection to a server, both named as in the recording (`a`, `b`, `w`).
pub(crate) fn sent<'a>(recording: &'a Json, client: &str, server: &str, nth: usize) -> &'a Json {
    let address = |node: &str| format!("{}:", recording["hosts"][node].as_str().unwrap());
    let (client, server) = (address(client), address(server));
    let all = recording["network"].as_array().unwrap();
    let starts = |entry: &Json, end: &str, with: &str| entry[end].as_str().unwrap().starts_with(with);
    let mut found = all.iter().filter(|entry| starts(entry, "client", &client) && starts(entry, "server", &server));
    found.nth(nth).expect("it was recorded")
}
