//! Tokens -> a tree of sections and settings with spans. Decides what belongs to what and reports every error of form
//! and of value, each mistake once. Knows nothing of inheritance or of the node it runs on.
//!
//! It reads without recursion: sections nest three deep at most, because the table of parameters allows no more.

use alloc::string::String;
use alloc::vec::Vec;
use core::iter::Peekable;
use core::ops::Range;

use super::diagnostic::Problems;
use super::lexer::{Fault, Lexeme, Lexer, Token};
use super::params::{self, Kind, Name, Parameter, Place};
use super::problem::Problem;
use super::value::{self, Value, Word};

/// A part of the file: the whole, or a keyword with what stands in its braces.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) place: Place,
    /// The keyword; 0..0 for the whole file.
    pub(super) keyword: Range<usize>,
    /// The name, empty where there is none, and where it stands.
    pub(super) name: String,
    pub(super) name_span: Range<usize>,
    /// Each parameter once.
    pub(super) settings: Vec<Setting>,
    /// The sections inside but keys, in the order of the file.
    pub(super) sections: Vec<Section>,
    /// The keys inside, in the order of the file.
    pub(super) keys: Vec<Section>,
    /// Something here was not understood, so that nothing can be said about what is missing.
    pub(super) damaged: bool,
    /// Where its brace was opened; `None` when that brace is missing.
    brace: Option<Range<usize>>,
}

/// A parameter with its value.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) parameter: &'static Parameter,
    pub(super) span: Range<usize>,
    /// `None`: it is faulty, which was reported.
    pub(super) value: Option<Value>,
}

impl Section {
    const fn new(place: Place) -> Self {
        Self {
            place,
            keyword: 0..0,
            name: String::new(),
            name_span: 0..0,
            settings: Vec::new(),
            sections: Vec::new(),
            keys: Vec::new(),
            damaged: false,
            brace: None,
        }
    }

    pub(super) fn setting(&self, name: Name) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.parameter.name == name)
    }

    /// The sections of one kind inside this one.
    pub(super) fn sections(&self, place: Place) -> impl Iterator<Item = &Self> {
        self.sections.iter().filter(move |section| section.place == place)
    }
}

/// Reads the whole text: the tree, and where secrets stand.
pub(super) fn parse(text: &str, problems: &mut Problems) -> (Section, Vec<Range<usize>>) {
    let mut parser = Parser {
        text,
        tokens: Lexer::new(text).peekable(),
        problems,
        top: Section::new(Place::Top),
        open: Vec::new(),
        secrets: Vec::new(),
        braces_are_lost: false,
        after_secret: false,
        list_ended_at: None,
    };
    parser.run();
    (parser.top, parser.secrets)
}

struct Parser<'t, 'p> {
    text: &'t str,
    tokens: Peekable<Lexer<'t>>,
    problems: &'p mut Problems,
    top: Section,
    /// The sections whose closing brace is still to come, the innermost last.
    open: Vec<Section>,
    secrets: Vec<Range<usize>>,
    /// A brace is missing and that has been told: what follows from it is not told again.
    braces_are_lost: bool,
    /// The last token was the word `secret`.
    after_secret: bool,
    /// Where a list was ended by what is probably a misspelt keyword.
    list_ended_at: Option<usize>,
}

impl<'t> Parser<'t, '_> {
    fn run(&mut self) {
        while let Some(token) = self.next() {
            match &token.kind {
                Lexeme::Word => self.statement(&token),
                Lexeme::Close => self.close(&token),
                Lexeme::Open => {
                    self.lost(token.span.clone(), &Problem::StrayOpen);
                    self.skip_block();
                }
                Lexeme::Quoted => {
                    self.hide_in_key(&token);
                    self.lost(token.span, &Problem::NoParameter);
                    self.skip_statement();
                }
                Lexeme::Faulty(..) => {
                    self.hide_in_key(&token);
                    self.fault(&token);
                    self.current().damaged = true;
                    self.skip_statement();
                }
            }
        }
        self.end();
    }

    /// What begins with a bare word where a parameter is expected.
    fn statement(&mut self, token: &Token) {
        let place = self.place();
        let word = raw(self.text, token);
        let known = params::find(word);
        let meant = known.or_else(|| params::suggest(word, place));
        if known.is_none() {
            let in_list = self.list_ended_at == Some(token.span.start);
            let problem = match meant {
                None if place == Place::Key => Problem::UnknownInKey,
                None if !looks_like_keyword(word) => Problem::NoParameter,
                meant => Problem::Unknown { word, meant, place, in_list },
            };
            self.problems.report(token.span.clone(), &problem);
        }
        // A misspelt parameter is read on as the one that was meant, so that its values cause no further errors.
        match meant {
            None => {
                self.hide_in_key(token);
                self.current().damaged = true;
                self.skip_statement();
            }
            Some(parameter) if parameter.is_allowed(place) => match parameter.kind {
                Kind::Section { named } => self.section(parameter, named, token),
                _ => self.setting(parameter, token),
            },
            Some(parameter) if matches!(parameter.name, Name::On | Name::Resource) => {
                self.close_missing(parameter, token);
                self.section(parameter, true, token);
            }
            Some(parameter) => {
                if known.is_some() {
                    self.problems.report(token.span.clone(), &Problem::Misplaced { parameter, place });
                }
                self.skip_statement();
            }
        }
    }

    /// A parameter with its values.
    fn setting(&mut self, parameter: &'static Parameter, token: &Token) {
        let most = if parameter.kind.is_list() { usize::MAX } else { 1 };
        let mut words = Vec::new();
        let mut given = 0;
        while given < most
            && let Some(item) = self.next_value()
        {
            given += 1;
            // A string without its end may have swallowed a secret.
            let is_faulty = matches!(item.kind, Lexeme::Faulty(..));
            if parameter.name == Name::Secret || is_faulty {
                self.hide_in_key(&item);
            }
            if !self.fault(&item) {
                words.push(Word { text: item.text(self.text), span: item.span });
            }
        }
        let is_sound = given > 0 && words.len() == given;
        if given == 0 {
            let next = self.tokens.peek().filter(|next| next.kind == Lexeme::Word && !next.first_on_line);
            let next = next.and_then(|next| params::find(raw(self.text, next))).map(|next| next.word);
            self.problems.report(token.span.clone(), &Problem::NoValue { parameter, next });
        }
        let value = if is_sound { value::parse(parameter, words, self.problems) } else { None };
        self.extra_values(parameter, value.is_some());
        self.set(Setting { parameter, span: token.span.clone(), value });
    }

    /// What stands behind the one value of a parameter on the same line; it is told if all was well before.
    fn extra_values(&mut self, parameter: &'static Parameter, mut tell: bool) {
        let place = self.place();
        let mut found = false;
        while let Some(next) = self.next_if(|next, word| {
            !next.first_on_line
                && match next.kind {
                    Lexeme::Open => found,
                    Lexeme::Close => false,
                    Lexeme::Word => params::find(word).or_else(|| params::suggest(word, place)).is_none(),
                    Lexeme::Quoted | Lexeme::Faulty(..) => true,
                }
        }) {
            if next.kind == Lexeme::Open {
                return self.skip_block();
            }
            self.hide_in_key(&next);
            found = true;
            if tell {
                let unit = parameter.kind == Kind::Duration && matches!(raw(self.text, &next), "ms" | "s" | "m" | "h");
                self.lost(next.span, &Problem::ExtraValue { parameter, unit });
            }
            tell = false;
        }
    }

    fn set(&mut self, setting: Setting) {
        let current = self.open.last_mut().unwrap_or(&mut self.top);
        let word = setting.parameter.word;
        match current.settings.iter_mut().find(|known| known.parameter.word == word) {
            Some(known) => {
                let line = self.problems.line(known.span.start);
                let list = setting.parameter.kind.is_list();
                self.problems.report(setting.span.clone(), &Problem::Twice { word, list, line });
                *known = setting;
            }
            None => current.settings.push(setting),
        }
    }

    /// A section from its name to its opening brace.
    fn section(&mut self, parameter: &'static Parameter, named: bool, token: &Token) {
        let Some(place) = self.place().inside(parameter.name) else { return };
        let mut section = Section::new(place);
        section.keyword = token.span.clone();
        section.name_span = token.span.clone();
        if named {
            self.name(parameter, &mut section);
        }
        section.brace = self.opening_brace(&mut section);
        let ends_here = self.tokens.peek().is_none_or(|next| next.kind == Lexeme::Close);
        if section.brace.is_none() && ends_here {
            self.attach(section);
        } else {
            self.open.push(section);
        }
    }

    /// The name. Without a good one the section is read, but nothing can be said of what it lacks.
    fn name(&mut self, parameter: &'static Parameter, section: &mut Section) {
        let is_name = |next: &Token, _: &str| !matches!(next.kind, Lexeme::Open | Lexeme::Close);
        if let Some(name) = self.next_if(is_name) {
            section.name_span = name.span.clone();
            if !self.fault(&name) {
                section.name = name.text(self.text).into_owned();
                if section.name.is_empty() {
                    self.problems.report(name.span, &Problem::EmptyName);
                }
            }
        } else {
            self.problems.report(section.keyword.clone(), &Problem::NoValue { parameter, next: None });
        }
        section.damaged = section.name.is_empty();
        self.current().damaged |= section.damaged;
    }

    /// The opening brace. When it is missing, the section is read as though it were there.
    fn opening_brace(&mut self, section: &mut Section) -> Option<Range<usize>> {
        let is_open = |next: &Token, _: &str| next.kind == Lexeme::Open;
        if let Some(brace) = self.next_if(is_open) {
            return Some(brace.span);
        }
        let is_key = section.place == Place::Key;
        while let Some(next) = self.next_if(|next, word| {
            !next.first_on_line
                && match next.kind {
                    Lexeme::Open | Lexeme::Close => false,
                    Lexeme::Word => params::find(word).is_none(),
                    Lexeme::Quoted | Lexeme::Faulty(..) => true,
                }
        }) {
            if is_key {
                self.hide(&next);
            }
        }
        let brace = self.next_if(is_open).map(|brace| brace.span);
        // A name that is missing or faulty was told, and may have swallowed the brace.
        if is_key || !section.name.is_empty() {
            let name_has_blanks = brace.is_some() && !is_key;
            self.lost(section.name_span.clone(), &Problem::MissingOpen { name_has_blanks });
        }
        section.damaged |= brace.is_none();
        self.braces_are_lost |= brace.is_none();
        brace
    }

    /// Closes what stands in the way of a section that can only be further out: its closing brace is missing.
    fn close_missing(&mut self, parameter: &'static Parameter, token: &Token) {
        let mut is_told = false;
        while self.place().inside(parameter.name).is_none() {
            let Some(mut section) = self.open.pop() else { return };
            if !is_told && section.brace.is_some() {
                let line = self.problems.line(section.keyword.start);
                self.problems.report(token.span.clone(), &Problem::MissingClose { word: parameter.word, line });
            }
            is_told = true;
            section.damaged = true;
            self.attach(section);
        }
        self.braces_are_lost = true;
    }

    fn close(&mut self, token: &Token) {
        match self.open.pop() {
            Some(section) => self.attach(section),
            None if self.braces_are_lost => {}
            None => self.problems.report(token.span.clone(), &Problem::StrayClose),
        }
    }

    fn end(&mut self) {
        while let Some(mut section) = self.open.pop() {
            if let Some(brace) = section.brace.clone().filter(|_| !self.braces_are_lost) {
                self.problems.report(brace, &Problem::Unclosed);
            }
            section.damaged = true;
            self.attach(section);
        }
    }

    /// Puts a section that is complete into the one around it.
    fn attach(&mut self, section: Section) {
        let around = self.current();
        let list = if section.place == Place::Key { &mut around.keys } else { &mut around.sections };
        list.push(section);
    }

    /// Goes on to what is probably the next parameter or the end of the section.
    fn skip_statement(&mut self) {
        while let Some(next) = self.tokens.peek() {
            let word = raw(self.text, next);
            match next.kind {
                Lexeme::Close => return,
                Lexeme::Word if params::find(word).is_some() => return,
                Lexeme::Word if next.first_on_line && looks_like_keyword(word) => return,
                Lexeme::Open => {
                    self.next();
                    return self.skip_block();
                }
                _ => {
                    if let Some(skipped) = self.next() {
                        self.hide_in_key(&skipped);
                    }
                }
            }
        }
    }

    /// Goes on behind the brace that closes one that was just opened, and should not have been.
    fn skip_block(&mut self) {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next() {
                Some(token) => match token.kind {
                    Lexeme::Open => depth += 1,
                    Lexeme::Close => depth -= 1,
                    _ => self.hide_in_key(&token),
                },
                None => {
                    self.braces_are_lost = true;
                    return;
                }
            }
        }
    }

    fn next_if(&mut self, is_wanted: impl FnOnce(&Token, &str) -> bool) -> Option<Token> {
        let next = self.tokens.peek()?;
        if is_wanted(next, raw(self.text, next)) { self.next() } else { None }
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.next()?;
        // Wherever it stands: a line with a secret on it may be quoted for another reason.
        let word = raw(self.text, &token);
        let is_keyword = token.kind == Lexeme::Word && params::find(word).is_some();
        if self.after_secret && !is_keyword && !matches!(token.kind, Lexeme::Open | Lexeme::Close) {
            self.hide(&token);
        }
        self.after_secret = word == "secret";
        Some(token)
    }

    /// The next token if it can be a value: no brace, no keyword, and no line of its own that looks like a misspelt one.
    fn next_value(&mut self) -> Option<Token> {
        let place = self.place();
        let next = self.tokens.peek()?;
        let word = raw(self.text, next);
        match next.kind {
            Lexeme::Open | Lexeme::Close => None,
            Lexeme::Word if params::find(word).is_some() => None,
            Lexeme::Word
                if next.first_on_line
                    && word.len() > 3
                    && looks_like_keyword(word)
                    && params::suggest(word, place).is_some() =>
            {
                self.list_ended_at = Some(next.span.start);
                None
            }
            _ => self.next(),
        }
    }

    /// Tells the fault of a token; whether it has one.
    fn fault(&mut self, token: &Token) -> bool {
        let Lexeme::Faulty(fault, span) = &token.kind else { return false };
        let is_secret = self.secrets.last().is_some_and(|secret| *secret == token.span);
        let problem = match fault {
            Fault::Character(_) if is_secret => Problem::Character(None),
            _ => Problem::from(*fault),
        };
        self.problems.report(span.clone(), &problem);
        self.braces_are_lost |= *fault == Fault::Unterminated && raw(self.text, token).contains(['{', '}']);
        true
    }

    /// Reports what makes it impossible to say what is missing in this section.
    fn lost(&mut self, span: Range<usize>, problem: &Problem<'_>) {
        self.problems.report(span, problem);
        self.current().damaged = true;
    }

    fn hide_in_key(&mut self, token: &Token) {
        if self.place() == Place::Key {
            self.hide(token);
        }
    }

    fn hide(&mut self, token: &Token) {
        if self.secrets.last().is_none_or(|last| last.end <= token.span.start) {
            self.secrets.push(token.span.clone());
        }
    }

    fn place(&self) -> Place {
        self.open.last().map_or(Place::Top, |section| section.place)
    }

    fn current(&mut self) -> &mut Section {
        self.open.last_mut().unwrap_or(&mut self.top)
    }
}

/// A token as it stands in the text.
fn raw<'t>(text: &'t str, token: &Token) -> &'t str {
    text.get(token.span.clone()).unwrap_or_default()
}

/// Letters, and what joins them: no address, number or path.
fn looks_like_keyword(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-'))
}
