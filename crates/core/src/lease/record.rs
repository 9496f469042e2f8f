//! A vote as it is kept on disk: a text that an administrator can read, with a checksum. Decides what is a whole record; never where it is.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::Voters;
use crate::config::{MAX_NAME_LEN, MAX_NODES};
use crate::time::Duration;

/// Bytes in the text of a record, at most: the names of the voters and of the holder, each with a word; what does not change takes about 150.
pub const MAX_TEXT_LEN: usize = (MAX_NODES + 1) * (MAX_NAME_LEN + 8) + 256;

/// The first line, up to the number of the version.
const TITLE: &str = "hastmon vote ";
const VERSION: &str = "1";
/// The line that only a vote without end has.
const KEPT: &str = "kept yes\n";
/// Bytes of the SHA256 that are kept: it is there against accidents.
const CHECKSUM_SIZE: usize = 16;
const CHECKSUM_NAME: &str = "sha256 ";
const CHECKSUM_LINE_LEN: usize = CHECKSUM_NAME.len() + 2 * CHECKSUM_SIZE + 1;

/// For whom this node has voted, and who counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// The node that has the vote; empty when nobody ever had it.
    pub holder: String,
    /// The epoch for which it has it.
    pub epoch: u64,
    /// How long it binds, from the start of the daemon that finds it; zero when it was released.
    pub hold: Duration,
    /// The voters in force. A configuration that was changed while the node was down must not jump over steps that it would not be let jump over.
    pub voters: Voters,
    /// It binds without end.
    pub kept: bool,
}

/// A text that is no record. A vote may have been lost with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It does not begin like one.
    #[error("it is not the record of a vote")]
    NotARecord,
    /// Of another version.
    #[error("it is a record of version {0}, and only {VERSION} is known here: was it written by a newer hastmon?")]
    Version(String),
    /// The checksum does not match, or something is missing.
    #[error("it is damaged")]
    Damaged,
}

/// Why it is not known what a node has promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// The system refuses to read it: what it says may be known later.
    Unreadable(String),
    /// It says nothing that makes sense, and never will.
    Damaged(String),
}

impl Record {
    /// The record as a text. A part of a millisecond counts as a whole one: a vote may bind longer, never shorter.
    pub fn to_text(&self) -> String {
        let hold_ms = self.hold.as_nanos().div_ceil(1_000_000).min(u64::MAX.into());
        // The names come last, so that they need no quoting whatever is in them.
        let kept = if self.kept { KEPT } else { "" };
        let mut text =
            format!("{TITLE}{VERSION}\nepoch {}\nhold_ms {hold_ms}\n{kept}holder {}\n", self.epoch, self.holder);
        for voter in self.voters.iter() {
            // Writing to a String cannot fail. No name has the end of a line in it.
            let _ = writeln!(text, "voter {voter}");
        }
        let checksum = checksum(&text);
        text.push_str(&checksum);
        text
    }

    /// Reads what [`to_text`](Self::to_text) has written, to the last byte.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn from_text(text: &str) -> Result<Self, RecordError> {
        let (version, _) =
            text.strip_prefix(TITLE).and_then(|text| text.split_once('\n')).ok_or(RecordError::NotARecord)?;
        if version != VERSION {
            // Whatever it says about its version, it gets into one line of the log.
            return Err(RecordError::Version(version.chars().take(20).flat_map(char::escape_default).collect()));
        }
        content(text).and_then(Self::from_content).ok_or(RecordError::Damaged)
    }

    fn from_content(content: &str) -> Option<Self> {
        let (_, fields) = content.split_once('\n')?;
        let (epoch, fields) = fields.strip_prefix("epoch ")?.split_once('\n')?;
        let (hold_ms, fields) = fields.strip_prefix("hold_ms ")?.split_once('\n')?;
        // Records of before there were pauses have no such line.
        let (kept, fields) = fields.strip_prefix(KEPT).map_or((false, fields), |fields| (true, fields));
        let (holder, voters) = fields.strip_prefix("holder ")?.split_once('\n')?;
        let voters: Option<Vec<String>> =
            voters.lines().map(|line| Some(line.strip_prefix("voter ")?.to_string())).collect();
        Some(Self {
            holder: holder.to_string(),
            epoch: epoch.parse().ok()?,
            hold: Duration::from_millis(hold_ms.parse().ok()?),
            voters: Voters::new(voters?),
            kept,
        })
        .filter(|record| !record.holder.is_empty() || record.hold.is_zero())
    }
}

/// All lines before the last one, when that is their checksum.
pub(crate) fn content(text: &str) -> Option<&str> {
    let (content, checksum_line) = text.split_at_checked(text.len().checked_sub(CHECKSUM_LINE_LEN)?)?;
    (checksum_line == checksum(content)).then_some(content)
}

/// The last line, for all lines before it.
pub(crate) fn checksum(content: &str) -> String {
    let mut line = String::from(CHECKSUM_NAME);
    for byte in Sha256::digest(content).iter().take(CHECKSUM_SIZE) {
        // Writing to a String cannot fail.
        let _ = write!(line, "{byte:02x}");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> Record {
        let voters = Voters::new(["node-a", "node-b", "w"].map(String::from));
        Record { holder: "node-a".into(), epoch: 7, hold: Duration::from_millis(40_000), voters, kept: false }
    }

    /// With a checksum as a newer or a careless writer would have made it.
    fn with_checksum(content: &str) -> String {
        content.to_string() + &checksum(content)
    }

    #[test]
    fn a_record_is_a_text_that_can_be_read_and_checked_by_hand() {
        let text = record().to_text();
        let content = "hastmon vote 1\nepoch 7\nhold_ms 40000\nholder node-a\nvoter node-a\nvoter node-b\nvoter w\n";
        // head -n 7 FILE | sha256sum | head -c 32
        assert_eq!(text, content.to_string() + "sha256 6c9980305e5d9f8159cc0c8cea71bc8e\n");
    }

    #[test]
    fn a_vote_that_is_kept_has_a_line_more_and_a_record_without_it_is_not_kept() {
        let kept = Record { kept: true, ..record() };
        assert!(kept.to_text().starts_with("hastmon vote 1\nepoch 7\nhold_ms 40000\nkept yes\nholder node-a\n"));
        assert_eq!(Record::from_text(&kept.to_text()), Ok(kept));
        let before = with_checksum(
            "hastmon vote 1\nepoch 7\nhold_ms 40000\nholder node-a\nvoter node-a\nvoter node-b\nvoter w\n",
        );
        assert_eq!(Record::from_text(&before), Ok(record()));
    }

    #[test]
    fn a_change_of_any_byte_to_any_other_is_found_out() {
        let text = record().to_text().into_bytes();
        for at in 0..text.len() {
            for byte in 0..=u8::MAX {
                let mut changed = text.clone();
                changed[at] = byte;
                if changed != text
                    && let Ok(changed) = core::str::from_utf8(&changed)
                {
                    assert!(Record::from_text(changed).is_err(), "{changed}");
                }
            }
        }
    }

    #[test]
    fn a_text_that_is_cut_or_goes_on_is_found_out() {
        let text = record().to_text();
        for end in 0..text.len() {
            assert!(Record::from_text(&text[..end]).is_err(), "{end}");
        }
        for more in ["\n", " ", "\0", "x", &text] {
            assert_eq!(Record::from_text(&(text.clone() + more)), Err(RecordError::Damaged));
        }
    }

    #[test]
    fn another_version_is_named() {
        let newer = with_checksum("hastmon vote 2\nepoch 7\n");
        assert_eq!(Record::from_text(&newer), Err(RecordError::Version("2".into())));
        let strange = with_checksum("hastmon vote \u{1b}[1m\nepoch 7\n");
        assert_eq!(Record::from_text(&strange), Err(RecordError::Version("\\u{1b}[1m".into())));
        assert_eq!(Record::from_text("resource web {\n}\n"), Err(RecordError::NotARecord));
        assert_eq!(Record::from_text(""), Err(RecordError::NotARecord));
    }

    #[test]
    fn a_record_that_lacks_a_field_is_damaged_though_its_checksum_is_right() {
        for content in [
            "hastmon vote 1\n",
            "hastmon vote 1\nepoch 7\nhold_ms 40000\n",
            "hastmon vote 1\nepoch 7\nhold_ms 40000\nholder \n",
            "hastmon vote 1\nepoch -7\nhold_ms 40000\nholder a\n",
            "hastmon vote 1\nepoch 7\nhold_ms 18446744073709551616\nholder a\n",
            "hastmon vote 1\nhold_ms 40000\nepoch 7\nholder a\n",
        ] {
            assert_eq!(Record::from_text(&with_checksum(content)), Err(RecordError::Damaged), "{content}");
        }
    }

    #[test]
    fn a_hold_is_never_made_shorter() {
        for (hold, kept) in [(Duration::ZERO, 0), (Duration::from_nanos(1), 1), (Duration::from_micros(1001), 2)] {
            let read = Record::from_text(&Record { hold, ..record() }.to_text()).unwrap();
            assert_eq!(read.hold, Duration::from_millis(kept));
        }
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            holder in "\\PC{0,60}",
            epoch: u64,
            hold_ms: u32,
            voters in proptest::collection::vec("\\PC{1,9}", 0..5),
            kept: bool,
        ) {
            let hold = Duration::from_millis(if holder.is_empty() { 0 } else { hold_ms.into() });
            let record = Record { holder, epoch, hold, voters: Voters::new(voters), kept };
            prop_assert_eq!(Record::from_text(&record.to_text()), Ok(record));
        }

        #[test]
        fn any_text_is_a_record_or_an_error(text in "(hastmon vote 1\n)?(epoch [0-9]{1,3}\n)?.{0,50}(\nsha256 [0-9a-f]{32}\n)?") {
            prop_assert!(Record::from_text(&text).is_err());
        }

        #[test]
        fn no_record_is_longer_than_the_limit(holder in "[a-z]{255}", epoch: u64, hold_ms: u64) {
            let names = (0..MAX_NODES).map(|number| format!("{number:x>MAX_NAME_LEN$}"));
            let (hold, voters) = (Duration::from_millis(hold_ms), Voters::new(names));
            let record = Record { holder, epoch, hold, voters, kept: true };
            prop_assert!(record.to_text().len() <= MAX_TEXT_LEN);
        }
    }
}
