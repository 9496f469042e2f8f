//! Takes decisions off the front of a fuzzer's bytes. Never fails: when the bytes are used up, everything is 0.

use hastmon_core::wire::nv::{List, Value};

/// Names that mean something in a message, without the numbers that some of them end with.
const WORDS: [&str; 30] = [
    "resource",
    "priority",
    "token",
    "resuid",
    "now",
    "auth_hash",
    "type",
    "cmd",
    "role",
    "state",
    "seq",
    "error",
    "errmsg",
    "exec",
    "attempts_max",
    "remoteaddr",
    "workerpid",
    "complaints",
    "complaints_critical",
    "complaints_interval",
    "heartbeat",
    "remotestate",
    "remoterole",
    "attempts",
    "complaints_interval_ms",
    "heartbeat_ms",
    "all",
    "",
    "changes",
    "stuck_ms",
];
/// Those of protocol 1, in lists of their own: the numbers in the corpus choose among the others.
const PEER_WORDS: [&str; 27] = [
    "protocol_least",
    "protocol_most",
    "protocol",
    "version",
    "node",
    "voter",
    "configured",
    "ask",
    "epoch",
    "hold_us",
    "round",
    "voters",
    "successor",
    "reserve_us",
    "was_held",
    "holder",
    "released",
    "bound",
    "bound_us",
    "verdict",
    "highest",
    "left_us",
    "cmd",
    "seq",
    "role",
    "state",
    "priority",
];
/// What such a name may end with.
const NUMBERS: [&str; 8] = ["", "0", "1", "2", "10", "0.0", "0.1", "1.0"];
/// Pairs in a list that is made of words.
const MAX_PAIRS: u8 = 40;

/// The bytes that are left.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        array.iter_mut().zip(self.bytes(N)).for_each(|(to, from)| *to = *from);
        array
    }

    pub(super) fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// From 0 to `end`, without `end`; 0 when that is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()).checked_rem(end).unwrap_or(0)
    }

    /// One of some; none of none.
    pub(super) fn one_of<T: Copy>(&mut self, some: &[T]) -> Option<T> {
        let at = self.below(some.len());
        some.get(at).copied()
    }

    pub(super) fn int32(&mut self) -> i32 {
        i32::from_le_bytes(self.array())
    }

    pub(super) fn int64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A text with its length before it.
    pub(super) fn text(&mut self) -> String {
        let size = usize::from(self.byte());
        String::from_utf8_lossy(self.bytes(size)).into_owned()
    }

    /// A list whose names mean something and whose values may be of any type: what changed bytes of a whole message seldom are.
    pub(super) fn list(&mut self) -> List {
        let mut list = List::new();
        for _ in 0..self.byte() % MAX_PAIRS {
            let word = self.one_of(&WORDS).unwrap_or_default();
            let number = self.one_of(&NUMBERS).unwrap_or_default();
            let value = self.value();
            list = list.with(&format!("{word}{number}"), value);
        }
        list
    }

    /// The same with the words of protocol 1.
    pub(super) fn peer_list(&mut self) -> List {
        let mut list = List::new();
        for _ in 0..self.byte() % MAX_PAIRS {
            let word = self.one_of(&PEER_WORDS).unwrap_or_default();
            let number = if word == "voter" { self.one_of(&NUMBERS).unwrap_or_default() } else { "" };
            let value = self.value();
            list = list.with(&format!("{word}{number}"), value);
        }
        list
    }

    fn value(&mut self) -> Value {
        match self.byte() % 12 {
            0 | 1 => Value::U8(self.byte()),
            2 | 3 => Value::I32(self.int32()),
            4 => Value::U64(self.int64()),
            5 => Value::I16(i16::from_le_bytes(self.array())),
            6 => Value::U8s(self.array::<16>().to_vec()),
            7 => {
                let size = self.below(70);
                Value::U8s(self.bytes(size).to_vec())
            }
            8 => Value::Str(["init", "primary", "all", "web"].map(String::from)[self.below(4)].clone()),
            9 => Value::I8(i8::from_le_bytes(self.array())),
            10 => Value::U16s(vec![u16::from_le_bytes(self.array())]),
            _ => Value::Str(self.text()),
        }
    }
}
