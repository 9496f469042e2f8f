//! The name of a file that belongs to a resource. Decides nothing else.

use sha2::{Digest, Sha256};

/// Bytes in a name from here, at most: with what else belongs to the file's name it stays below the 255 bytes that one may have.
const MAX_LEN: usize = 200;
/// Bytes of the SHA256 that stands for a longer name.
const HASH_SIZE: usize = 16;

/// What cannot stand in a file's name is written as its code. Different resources have different names, with every version of hastmon the
/// same. A `~` is never in it.
pub(crate) fn file_name(resource: &str) -> String {
    // When each byte is written as its code.
    if resource.len() * 3 > MAX_LEN {
        // No code begins with %, so that no name which is written out is the same.
        return Sha256::digest(resource).iter().take(HASH_SIZE).fold("%%".to_string(), |name, byte| name + &hex(*byte));
    }
    resource.bytes().fold(String::new(), |name, byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            name + char::from(byte).encode_utf8(&mut [0; 4])
        }
        _ => name + "%" + &hex(byte),
    })
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_name_stays_as_it_is_and_others_are_written_as_codes() {
        assert_eq!(file_name("web-1.example_x"), "web-1.example_x");
        assert_eq!(file_name("a/b %~\u{e9}"), "a%2fb%20%25%7e%c3%a9");
    }

    #[test]
    fn a_long_name_becomes_one_that_no_other_has() {
        let long = "a".repeat(67);
        // printf '%s' aaa... | sha256sum | head -c 32
        assert_eq!(file_name(&long), "%%6116c09f89718e829f69b7afb1d9d60c");
        assert_ne!(file_name(&long), file_name(&"a".repeat(68)));
        assert_ne!(file_name(&long), file_name(&file_name(&long)));
        assert!((0..=255).all(|size| file_name(&"\u{1}".repeat(size)).len() <= MAX_LEN));
    }
}
