//! Text -> tokens with spans. Decides where a token begins and ends and whether its characters are allowed.
//! Never reports anything: a faulty token carries its fault, for the parser to tell.

use alloc::borrow::Cow;
use alloc::string::String;
use core::mem;
use core::ops::Range;

/// One token. Spans count bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Lexeme,
    pub(super) span: Range<usize>,
    pub(super) first_on_line: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lexeme {
    /// Bare characters.
    Word,
    /// A string in quotes.
    Quoted,
    /// `{`
    Open,
    /// `}`
    Close,
    /// A word or a string that cannot be used, and the place of its fault.
    Faulty(Fault, Range<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A character that is not allowed outside of quotes.
    Character(char),
    /// A string without its closing quote.
    Unterminated,
    /// A backslash before something else than a quote or a backslash.
    Escape,
    /// A control character in a string.
    Control(char),
}

/// Whether a character may stand in a word without quotes.
pub(super) const fn is_bare(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_' | '/' | ':' | '[' | ']')
}

impl Token {
    /// What a word or a string says.
    pub(super) fn text<'t>(&self, source: &'t str) -> Cow<'t, str> {
        let raw = source.get(self.span.clone()).unwrap_or_default();
        if self.kind != Lexeme::Quoted {
            return Cow::Borrowed(raw);
        }
        let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or_default();
        if !inner.contains('\\') {
            return Cow::Borrowed(inner);
        }
        // Its full capacity at once: a secret leaves no copies behind by growing.
        let mut text = String::with_capacity(inner.len());
        let mut characters = inner.chars();
        while let Some(character) = characters.next() {
            text.extend(if character == '\\' { characters.next() } else { Some(character) });
        }
        Cow::Owned(text)
    }
}

pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
    line_is_fresh: bool,
}

impl<'t> Lexer<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, at: 0, line_is_fresh: true }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let rest = self.rest();
            let len = if rest.starts_with('#') {
                rest.find('\n').unwrap_or(rest.len())
            } else {
                rest.find(|c: char| !c.is_ascii_whitespace()).unwrap_or(rest.len())
            };
            if len == 0 {
                return;
            }
            self.line_is_fresh |= rest.get(..len).is_some_and(|blank| blank.contains('\n'));
            self.at += len;
        }
    }

    /// From a character that begins neither brace nor string up to the next blank, brace, quote or comment.
    fn word(&mut self) -> Lexeme {
        let rest = self.rest();
        let ends = |c: char| c.is_ascii_whitespace() || matches!(c, '{' | '}' | '"' | '#');
        let word = rest.get(..rest.find(ends).unwrap_or(rest.len())).unwrap_or_default();
        let start = self.at;
        self.at += word.len();
        match word.char_indices().find(|(_, c)| !is_bare(*c)) {
            None => Lexeme::Word,
            Some((offset, c)) => {
                let at = start + offset;
                Lexeme::Faulty(Fault::Character(c), at..at + c.len_utf8())
            }
        }
    }

    /// From a quote to its fellow, or to the end of the line when that is missing. The first fault counts, a missing
    /// quote more than any other.
    fn quoted(&mut self) -> Lexeme {
        let start = self.at;
        let mut fault = None;
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((offset, c)) = characters.next() {
            let here = start + offset;
            let found = match c {
                '"' => {
                    self.at = here + 1;
                    return fault.map_or(Lexeme::Quoted, |(fault, span)| Lexeme::Faulty(fault, span));
                }
                '\n' => break,
                '\\' => match characters.next() {
                    Some((_, '"' | '\\')) => None,
                    None | Some((_, '\n')) => break,
                    Some((_, escaped)) => Some((Fault::Escape, here..here + 1 + escaped.len_utf8())),
                },
                c if c.is_control() => Some((Fault::Control(c), here..here + c.len_utf8())),
                _ => None,
            };
            fault = fault.or(found);
        }
        let rest = self.rest();
        self.at += rest.find('\n').unwrap_or(rest.len());
        Lexeme::Faulty(Fault::Unterminated, start..self.at)
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks_and_comments();
        let start = self.at;
        let kind = match self.rest().chars().next()? {
            '{' => {
                self.at += 1;
                Lexeme::Open
            }
            '}' => {
                self.at += 1;
                Lexeme::Close
            }
            '"' => self.quoted(),
            _ => self.word(),
        };
        Some(Token { kind, span: start..self.at, first_on_line: mem::take(&mut self.line_is_fresh) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn kinds(text: &str) -> Vec<Lexeme> {
        Lexer::new(text).map(|token| token.kind).collect()
    }

    #[test]
    fn blanks_and_comments_separate_and_braces_and_quotes_need_no_blank() {
        let text = "a{\"b\"}c # d { \"\r\n\t1.5s#e\n#";
        let tokens: Vec<_> = Lexer::new(text).map(|token| (token.text(text), token.first_on_line)).collect();
        let expected = [("a", true), ("{", false), ("b", false), ("}", false), ("c", false), ("1.5s", true)]
            .map(|(t, f)| (t.into(), f));
        assert_eq!(tokens, expected);
    }

    #[test]
    fn a_string_holds_anything_but_control_characters_and_knows_two_escapes() {
        let text = r#""a b#{}\"\\ä""#;
        let token = Lexer::new(text).next().unwrap();
        assert_eq!((token.kind.clone(), token.text(text)), (Lexeme::Quoted, r#"a b#{}"\ä"#.into()));
        assert_eq!(kinds(r#""a\n\q""#), [Lexeme::Faulty(Fault::Escape, 2..4)]);
        assert_eq!(kinds("\"a\tb\""), [Lexeme::Faulty(Fault::Control('\t'), 2..3)]);
        assert_eq!(kinds("\"a\tb\nc"), [Lexeme::Faulty(Fault::Unterminated, 0..4), Lexeme::Word]);
        assert_eq!(kinds("\"a\\"), [Lexeme::Faulty(Fault::Unterminated, 0..3)]);
    }

    #[test]
    fn a_word_with_a_foreign_character_is_one_faulty_token() {
        assert_eq!(kinds("pa$$word x"), [Lexeme::Faulty(Fault::Character('$'), 2..3), Lexeme::Word]);
        assert_eq!(kinds("\u{a0}x"), [Lexeme::Faulty(Fault::Character('\u{a0}'), 0..2)]);
        assert_eq!(kinds("tcp6://[::1]:8458"), [Lexeme::Word]);
    }
}
