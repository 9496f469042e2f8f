//! The name-value codec: an ordered list of typed, named values.
//!
//! Decides which bytes are a list; never what the names mean. Padding is written as zeros and ignored when read: the
//! original sends whatever its memory holds there. Everything else is exact: a list with one bad pair is no list.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;

use super::frame;

/// type: u8, namesize: u8, dsize: u32.
const PAIR_HEADER_SIZE: usize = 6;
/// Name and value are padded to a multiple of this, each by itself.
const ALIGNMENT: usize = 8;
/// Pairs in one list: as many of the smallest as fill the largest frame. Whoever brings more has passed no frame.
pub const MAX_PAIRS: usize = frame::CONTROL_LIMIT / (PAIR_HEADER_SIZE + 2 * ALIGNMENT);

/// Stands in the place of a type after the last pair.
const TYPE_END: u8 = 0;
const TYPE_STRING: u8 = 17;

/// Bytes that are no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: pair {pair}: {fault}")]
pub struct DecodeError {
    /// Which pair is at fault, from 0.
    pub pair: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The sizes in its header reach beyond the end of the message.
    #[error("it does not fit into the message")]
    Truncated,
    /// No such type; the bit 0x80 makes any type an unknown one.
    #[error("its type {0} is unknown")]
    Type(u8),
    /// Empty, without its NUL, with another NUL inside, or not UTF-8.
    #[error("its name is not a NUL-terminated UTF-8 text")]
    Name,
    /// dsize is 0.
    #[error("it has no value")]
    NoValue,
    /// The size of the value does not go with its type.
    #[error("a value of {size} bytes cannot have type {kind}")]
    Size {
        /// The number of the type.
        kind: u8,
        /// Bytes in the value.
        size: usize,
    },
    /// Without its NUL, with another NUL inside, or not UTF-8.
    #[error("its string is not a NUL-terminated UTF-8 text")]
    Text,
    /// Only zeros may follow the end of the list.
    #[error("it stands after the end of the list")]
    AfterEnd,
    /// More than [`MAX_PAIRS`].
    #[error("there are more than {MAX_PAIRS} pairs")]
    TooMany,
}

/// Named values in their order. Holds only what the wire can carry, so that `decode(encode(list)) == list`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    pairs: Vec<(String, Value)>,
}

/// The pairs of a list, or of a part of one, by their names. Each name is looked for from the first pair on.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a [(String, Value)]);

impl List {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// All pairs in their order.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// All pairs by their names.
    pub const fn fields(&self) -> Fields<'_> {
        Fields(self.pairs.as_slice())
    }

    /// The string of this name; `None` when absent or of another type.
    pub fn str(&self, name: &str) -> Option<&str> {
        self.fields().str(name)
    }

    /// The strings `field0`, `field1` and so forth, wherever they stand, up to the first number that no string has. In one pass.
    pub fn numbered(&self, field: &str) -> Vec<&str> {
        let mut found = BTreeMap::new();
        for (name, value) in &self.pairs {
            if let Some(digits) = name.strip_prefix(field)
                && let Some(number) = digits.parse::<usize>().ok().filter(|number| format!("{number}") == digits)
            {
                found.entry(number).or_insert(value);
            }
        }
        let texts = found.into_iter().zip(0..).map_while(|((number, value), next)| match value {
            Value::Str(text) if number == next => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// What is said of several things in turn: the pairs from the name `field0` on, from `field1` on and so forth, each up to the next, for
    /// as long as the numbers go on. In one pass, however many there are.
    pub fn parts(&self, field: &str) -> impl Iterator<Item = Fields<'_>> {
        let from = move |pairs: &[(String, Value)], number: usize| {
            let name = format!("{field}{number}");
            pairs.iter().position(|(known, _)| *known == name)
        };
        let mut rest = from(&self.pairs, 0).and_then(|at| self.pairs.get(at..));
        (1..).map_while(move |next| {
            let pairs = rest.take()?;
            let end = from(pairs, next);
            rest = end.and_then(|at| pairs.get(at..));
            pairs.get(..end.unwrap_or(pairs.len())).map(Fields)
        })
    }

    /// Appends a string.
    #[must_use]
    pub fn with_str(self, name: &str, text: &str) -> Self {
        self.with(name, Value::Str(text.to_owned()))
    }

    /// Appends a pair. One that has no form on the wire (a name of more than 254 bytes, a NUL in a text, an empty
    /// array) is left out: the receiver then misses it, and reads nothing wrong.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        if sizes(name, &value).is_some() {
            self.pairs.push((name.to_owned(), value));
        }
        self
    }

    /// The bytes of this list, without a frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.pairs {
            encode_pair(&mut out, name, value);
        }
        out
    }

    /// Reads a list that takes up all of `bytes`, but for zeros at the end.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut list = Self::new();
        let mut input = bytes;
        while let Some(&kind) = input.first() {
            let error = |fault| DecodeError { pair: list.pairs.len(), fault };
            if kind == TYPE_END {
                if input.iter().any(|&byte| byte != 0) {
                    return Err(error(Fault::AfterEnd));
                }
                break;
            }
            if list.pairs.len() == MAX_PAIRS {
                return Err(error(Fault::TooMany));
            }
            let (name, value) = decode_pair(&mut input).map_err(error)?;
            list.pairs.push((name, value));
        }
        Ok(list)
    }
}

impl<'a> Fields<'a> {
    /// The value of the first pair of this name.
    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The string of this name; `None` when absent or of another type.
    pub fn str(self, name: &str) -> Option<&'a str> {
        match self.get(name) {
            Some(Value::Str(text)) => Some(text),
            _ => None,
        }
    }
}

/// The bytes of a name and of a value, without padding; `None` when the pair has no form on the wire.
fn sizes(name: &str, value: &Value) -> Option<(u8, u32)> {
    let name_size = u8::try_from(name.len() + 1).ok().filter(|_| !name.contains('\0'))?;
    let value_size = u32::try_from(value.size()?).ok().filter(|&size| size != 0)?;
    Some((name_size, value_size))
}

/// Appends the bytes of one pair; nothing when it has no form on the wire.
fn encode_pair(out: &mut Vec<u8>, name: &str, value: &Value) {
    let Some((name_size, value_size)) = sizes(name, value) else { return };
    out.extend([value.type_number(), name_size]);
    out.extend(value_size.to_le_bytes());
    let name_end = out.len() + usize::from(name_size).next_multiple_of(ALIGNMENT);
    out.extend(name.as_bytes());
    out.resize(name_end, 0);
    value.write(out);
    let value_end = name_end + (out.len() - name_end).next_multiple_of(ALIGNMENT);
    out.resize(value_end, 0);
}

/// Takes one pair off the front of `input`. No size that the sender states is believed before the bytes are there.
fn decode_pair(input: &mut &[u8]) -> Result<(String, Value), Fault> {
    let (&[kind, name_size, ref value_size @ ..], rest) =
        input.split_first_chunk::<PAIR_HEADER_SIZE>().ok_or(Fault::Truncated)?;
    *input = rest;
    let value_size = usize::try_from(u32::from_le_bytes(*value_size)).map_err(|_| Fault::Truncated)?;
    let name = text(take_padded(input, name_size.into())?).ok_or(Fault::Name)?;
    let value = take_padded(input, value_size)?;
    if value.is_empty() {
        return Err(Fault::NoValue);
    }
    Ok((name, Value::from_bytes(kind, value)?))
}

/// Takes `size` bytes and their padding off the front of `input`.
fn take_padded<'a>(input: &mut &'a [u8], size: usize) -> Result<&'a [u8], Fault> {
    let (padded, rest) = size
        .checked_next_multiple_of(ALIGNMENT)
        .and_then(|padded_size| input.split_at_checked(padded_size))
        .ok_or(Fault::Truncated)?;
    *input = rest;
    padded.get(..size).ok_or(Fault::Truncated)
}

/// A text with its terminating NUL, and with no other.
fn text(bytes: &[u8]) -> Option<String> {
    Some(CStr::from_bytes_with_nul(bytes).ok()?.to_str().ok()?.to_owned())
}

fn number<T, const N: usize>(kind: u8, bytes: &[u8], from: fn([u8; N]) -> T) -> Result<T, Fault> {
    bytes.try_into().map(from).map_err(|_| Fault::Size { kind, size: bytes.len() })
}

fn numbers<T, const N: usize>(kind: u8, bytes: &[u8], from: fn([u8; N]) -> T) -> Result<Vec<T>, Fault> {
    match bytes.as_chunks() {
        (chunks, []) => Ok(chunks.iter().copied().map(from).collect()),
        _ => Err(Fault::Size { kind, size: bytes.len() }),
    }
}

/// Everything that is the same for each type of number: a line of the table below says what differs.
macro_rules! number_types {
    ($($one:ident = $one_type:literal, $many:ident = $many_type:literal:
       $int:ident $with_one:ident, $get_many:ident $with_many:ident;)*) => {
        /// A value with its type.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Value {
            $(
                #[doc = concat!("One `", stringify!($int), "`.")]
                $one($int),
                #[doc = concat!("An array of `", stringify!($int), "`, never empty on the wire.")]
                $many(Vec<$int>),
            )*
            /// A text without NUL.
            Str(String),
        }

        impl Value {
            fn type_number(&self) -> u8 {
                match self {
                    $(Self::$one(_) => $one_type, Self::$many(_) => $many_type,)*
                    Self::Str(_) => TYPE_STRING,
                }
            }

            /// Its bytes on the wire; `None` when it has no form there.
            fn size(&self) -> Option<usize> {
                match self {
                    $(
                        Self::$one(_) => Some(size_of::<$int>()),
                        Self::$many(numbers) => Some(size_of_val(numbers.as_slice())),
                    )*
                    Self::Str(text) => (!text.contains('\0')).then_some(text.len() + 1),
                }
            }

            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(
                        Self::$one(number) => out.extend(number.to_le_bytes()),
                        Self::$many(numbers) => out.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
                    )*
                    Self::Str(text) => {
                        out.extend(text.as_bytes());
                        out.push(0);
                    }
                }
            }

            fn from_bytes(kind: u8, bytes: &[u8]) -> Result<Self, Fault> {
                match kind {
                    $(
                        $one_type => number(kind, bytes, $int::from_le_bytes).map(Self::$one),
                        $many_type => numbers(kind, bytes, $int::from_le_bytes).map(Self::$many),
                    )*
                    TYPE_STRING => text(bytes).map(Self::Str).ok_or(Fault::Text),
                    _ => Err(Fault::Type(kind)),
                }
            }
        }

        impl<'a> Fields<'a> {
            $(
                #[doc = concat!("The `", stringify!($int), "` of this name; `None` when absent or of another type.")]
                pub fn $int(self, name: &str) -> Option<$int> {
                    match self.get(name) {
                        Some(Value::$one(number)) => Some(*number),
                        _ => None,
                    }
                }

                #[doc = concat!("The `", stringify!($int), "` array of this name; `None` when absent or another type.")]
                pub fn $get_many(self, name: &str) -> Option<&'a [$int]> {
                    match self.get(name) {
                        Some(Value::$many(numbers)) => Some(numbers),
                        _ => None,
                    }
                }
            )*
        }

        impl List {
            $(
                #[doc = concat!("The `", stringify!($int), "` of this name; `None` when absent or of another type.")]
                pub fn $int(&self, name: &str) -> Option<$int> {
                    self.fields().$int(name)
                }

                #[doc = concat!("The `", stringify!($int), "` array of this name; `None` when absent or another type.")]
                pub fn $get_many(&self, name: &str) -> Option<&[$int]> {
                    self.fields().$get_many(name)
                }

                #[doc = concat!("Appends one `", stringify!($int), "`.")]
                #[must_use]
                pub fn $with_one(self, name: &str, number: $int) -> Self {
                    self.with(name, Value::$one(number))
                }

                #[doc = concat!("Appends an array of `", stringify!($int), "`.")]
                #[must_use]
                pub fn $with_many(self, name: &str, numbers: &[$int]) -> Self {
                    self.with(name, Value::$many(numbers.to_vec()))
                }
            )*
        }
    };
}

number_types! {
    I8 = 1, I8s = 9: i8 with_i8, i8s with_i8s;
    U8 = 2, U8s = 10: u8 with_u8, u8s with_u8s;
    I16 = 3, I16s = 11: i16 with_i16, i16s with_i16s;
    U16 = 4, U16s = 12: u16 with_u16, u16s with_u16s;
    I32 = 5, I32s = 13: i32 with_i32, i32s with_i32s;
    U32 = 6, U32s = 14: u32 with_u32, u32s with_u32s;
    I64 = 7, I64s = 15: i64 with_i64, i64s with_i64s;
    U64 = 8, U64s = 16: u64 with_u64, u64s with_u64s;
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::collection::vec as many;
    use proptest::prelude::*;

    fn fault(bytes: &[u8]) -> Fault {
        List::decode(bytes).unwrap_err().fault
    }

    /// A pair named `x` with this header and value.
    fn pair(kind: u8, name_size: u8, value_size: u32, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, name_size];
        bytes.extend(value_size.to_le_bytes());
        bytes.extend(b"x\0\0\0\0\0\0\0");
        bytes.extend(value);
        bytes
    }

    #[test]
    fn a_name_of_length_zero_is_refused() {
        assert_eq!(fault(&pair(2, 0, 1, &[1; 8])), Fault::Name);
    }

    #[test]
    fn a_value_of_four_gigabytes_that_is_not_there_is_refused() {
        for size in [u32::MAX, u32::MAX - 7, 1 << 31, 9] {
            for kind in [2, 10, 16, 17] {
                assert_eq!(fault(&pair(kind, 2, size, &[1; 8])), Fault::Truncated);
            }
        }
    }

    #[test]
    fn an_empty_value_is_refused() {
        for kind in 1..=17 {
            assert_eq!(fault(&pair(kind, 2, 0, &[])), Fault::NoValue);
        }
    }

    #[test]
    fn a_name_or_string_without_nul_or_with_one_inside_is_refused() {
        assert_eq!(fault(&pair(2, 1, 1, &[1; 8])), Fault::Name);
        assert_eq!(fault(&pair(2, 3, 1, &[1; 8])), Fault::Name);
        assert_eq!(fault(&pair(17, 2, 8, b"abcdefgh")), Fault::Text);
        assert_eq!(fault(&pair(17, 2, 8, b"abc\0efg\0")), Fault::Text);
    }

    #[test]
    fn a_text_that_is_not_utf8_is_refused() {
        assert_eq!(fault(&pair(17, 2, 2, b"\xff\0\0\0\0\0\0\0")), Fault::Text);
        assert_eq!(fault(b"\x02\x02\x01\0\0\0\xff\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"), Fault::Name);
    }

    #[test]
    fn an_unknown_type_is_refused_and_so_is_bit_0x80() {
        for kind in [18, 0x7f, 0x80, 0x82, 0xff] {
            assert_eq!(fault(&pair(kind, 2, 1, &[1; 8])), Fault::Type(kind));
        }
    }

    #[test]
    fn a_value_whose_size_does_not_go_with_its_type_is_refused() {
        assert_eq!(fault(&pair(2, 2, 2, &[1; 8])), Fault::Size { kind: 2, size: 2 });
        assert_eq!(fault(&pair(8, 2, 7, &[1; 8])), Fault::Size { kind: 8, size: 7 });
        assert_eq!(fault(&pair(12, 2, 3, &[1; 8])), Fault::Size { kind: 12, size: 3 });
    }

    #[test]
    fn a_value_without_its_padding_is_refused() {
        assert_eq!(fault(&pair(2, 2, 1, &[1; 7])), Fault::Truncated);
    }

    #[test]
    fn padding_is_ignored_when_read() {
        let list = List::decode(b"\x02\x02\x01\0\0\0x\0garbag\x05garbage").unwrap();
        assert_eq!(list, List::new().with_u8("x", 5));
    }

    #[test]
    fn zeros_and_only_zeros_may_follow_the_list() {
        let list = List::new().with_u8("x", 5);
        for zeros in 0..20 {
            let mut bytes = list.encode();
            bytes.resize(bytes.len() + zeros, 0);
            assert_eq!(List::decode(&bytes), Ok(list.clone()));
        }
        let mut bytes = list.encode();
        bytes.extend([0, 0, 1]);
        assert_eq!(List::decode(&bytes), Err(DecodeError { pair: 1, fault: Fault::AfterEnd }));
    }

    #[test]
    fn too_many_pairs_are_refused() {
        let bytes = List::new().with_u8("x", 5).encode().repeat(MAX_PAIRS + 1);
        assert_eq!(List::decode(&bytes), Err(DecodeError { pair: MAX_PAIRS, fault: Fault::TooMany }));
    }

    #[test]
    fn the_first_pair_of_a_name_wins_and_a_wrong_type_counts_as_absent() {
        let list = List::new().with_u8("a", 1).with_u8("a", 2).with_str("b", "x").with_u8("b", 3);
        assert_eq!(list.u8("a"), Some(1));
        assert_eq!(list.u8("b"), None);
        assert_eq!(list.i8("a"), None);
        assert_eq!(list.u8s("a"), None);
        assert_eq!(list.str("b"), Some("x"));
        assert_eq!(list.str("c"), None);
    }

    #[test]
    fn numbered_strings_are_found_wherever_they_stand_up_to_the_first_gap() {
        let texts = |names: &[&str]| {
            let list = names.iter().fold(List::new(), |list, name| list.with_str(name, name));
            list.numbered("r").into_iter().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(texts(&["r1", "x", "r0", "r3", "r0"]), ["r0", "r1"]);
        assert_eq!(texts(&["r00", "r+0", "r99999999999999999999999", "r"]), [""; 0]);
        let typed = List::new().with_str("r0", "a").with_u8("r1", 1).with_str("r1", "b").with_str("r2", "c");
        assert_eq!(typed.numbered("r"), ["a"], "of another type counts as absent");
    }

    #[test]
    fn the_parts_of_a_list_begin_at_their_numbers_in_turn() {
        let names = ["x", "r1", "r0", "x", "y", "r1", "r10", "x", "r2", "r4", "r3", "r3"];
        let list = names.iter().zip(0..).fold(List::new(), |list, (name, number)| list.with_u64(name, number));
        let parts: Vec<_> = list.parts("r").map(|part| (part.0.len(), part.u64("x"), part.u64("y"))).collect();
        assert_eq!(parts, [(3, Some(3), Some(4)), (3, Some(7), None), (2, None, None), (2, None, None)]);
        assert_eq!(list.parts("z").count(), 0);
    }

    #[test]
    fn what_the_wire_cannot_carry_is_left_out() {
        let long = "n".repeat(254);
        let list = List::new()
            .with_u8(&long, 1)
            .with_u8(&(long.clone() + "n"), 2)
            .with_u8("a\0b", 3)
            .with_str("c", "d\0e")
            .with_u8s("f", &[]);
        assert_eq!(list.pairs().collect::<Vec<_>>(), [(long.as_str(), &Value::U8(1))]);
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i8>().prop_map(Value::I8),
            any::<u8>().prop_map(Value::U8),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            many(any::<i8>(), 1..9).prop_map(Value::I8s),
            many(any::<u8>(), 1..40).prop_map(Value::U8s),
            many(any::<i16>(), 1..9).prop_map(Value::I16s),
            many(any::<u16>(), 1..9).prop_map(Value::U16s),
            many(any::<i32>(), 1..9).prop_map(Value::I32s),
            many(any::<u32>(), 1..9).prop_map(Value::U32s),
            many(any::<i64>(), 1..9).prop_map(Value::I64s),
            many(any::<u64>(), 1..9).prop_map(Value::U64s),
            "[^\0]{0,40}".prop_map(Value::Str),
        ]
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(pairs in many(("[^\0]{0,60}", value()), 0..12)) {
            let list = pairs.iter().fold(List::new(), |list, (name, value)| list.with(name, value.clone()));
            prop_assert_eq!(list.pairs().len(), pairs.len());
            prop_assert_eq!(List::decode(&list.encode()), Ok(list));
        }

        #[test]
        fn any_bytes_give_a_list_or_an_error(bytes in many(any::<u8>(), 0..200)) {
            if let Ok(list) = List::decode(&bytes) {
                prop_assert_eq!(List::decode(&list.encode()), Ok(list));
            }
        }

        /// Random bytes seldom get past the first header; headers of small numbers do.
        #[test]
        fn bytes_that_look_like_pairs_give_a_list_or_an_error(
            pairs in many((0..20_u8, 0..10_u8, 0..20_u32, many(0..3_u8, 0..24)), 0..6),
        ) {
            let pairs = pairs.iter().map(|(kind, name, size, value)| pair(*kind, *name, *size, value));
            let bytes = pairs.collect::<Vec<_>>().concat();
            if let Ok(list) = List::decode(&bytes) {
                prop_assert_eq!(List::decode(&list.encode()), Ok(list));
            }
        }
    }
}
