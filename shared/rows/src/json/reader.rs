//! A pull parser for JSON.
//!
//! Uploads are mostly numbers, so the parser hands out number *texts*: the caller parses a coordinate to f32 in one rounding,
//! an integer without a detour through f64, and nothing is built that is not kept. Positions are known for every error.
//! Property names are matched by the caller; a repeated property is simply seen again, so that the last one wins.
//!
//! Owns `json-depth-is-bounded`: no document nests deeper than `DEPTH`, known properties or skipped ones.
//!
//! Does not allocate for anything but strings with escapes, and recurses into what it skips alone.

use std::borrow::Cow;

/// Deepest nesting of arrays and objects.
pub(super) const DEPTH: u32 = 128;

/// Why a text is not the JSON that was expected, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line} column {column}")]
pub struct JsonError {
    /// What is wrong, as `Malformed JSON: expected ':'`.
    pub what: String,
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
}

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// A digit or a minus.
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Bool => "a boolean",
            Self::Null => "null",
        }
    }
}

/// Reads one document, or several that follow each other.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> Reader<'a> {
    /// Over the bytes of a body. A byte order mark is skipped.
    ///
    /// # Errors
    /// The bytes are not UTF-8.
    pub fn new(bytes: &'a [u8]) -> Result<Self, JsonError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text: text.strip_prefix('\u{feff}').unwrap_or(text), at: 0, depth: 0 }),
            Err(error) => {
                let at = error.valid_up_to();
                Err(error_at(bytes, at, "Malformed JSON: the text is not UTF-8".to_owned()))
            }
        }
    }

    /// An error at the current position.
    pub fn error(&self, what: impl Into<String>) -> JsonError {
        self.error_at(self.at, what)
    }

    /// An error at a position that [`Self::position`] gave.
    pub fn error_at(&self, at: usize, what: impl Into<String>) -> JsonError {
        error_at(self.text.as_bytes(), at, what.into())
    }

    /// Where the next value or mark begins.
    pub fn position(&mut self) -> usize {
        self.skip_whitespace();
        self.at
    }

    /// The text of the document between two positions.
    pub fn slice(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// Whether nothing but white space is left.
    pub fn at_end(&mut self) -> bool {
        self.skip_whitespace();
        self.at == self.text.len()
    }

    /// Demands that nothing but white space is left.
    ///
    /// # Errors
    /// Something is.
    pub fn end(&mut self) -> Result<(), JsonError> {
        if self.at_end() { Ok(()) } else { Err(self.malformed("expected the end of the text")) }
    }

    /// What the next value is; consumes nothing.
    ///
    /// # Errors
    /// No value begins here.
    pub fn peek(&mut self) -> Result<Kind, JsonError> {
        self.skip_whitespace();
        match self.byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.malformed("expected a value")),
            None => Err(self.malformed("expected a value, found the end of the text")),
        }
    }

    /// Consumes a `null`, if the next value is one.
    ///
    /// # Errors
    /// No value begins here.
    pub fn null(&mut self) -> Result<bool, JsonError> {
        if self.peek()? == Kind::Null {
            self.literal("null")?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads a value in whose place `null` may stand: `None` then.
    ///
    /// # Errors
    /// The next value is neither `null` nor what `read` reads.
    pub fn optional<T, E: From<JsonError>>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        if self.null()? { Ok(None) } else { read(self).map(Some) }
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// The next value is something else.
    pub fn boolean(&mut self, what: &str) -> Result<bool, JsonError> {
        match self.peek()? {
            Kind::Bool if self.byte() == Some(b't') => self.literal("true").map(|()| true),
            Kind::Bool => self.literal("false").map(|()| false),
            kind => Err(self.wrong(what, "true or false", kind)),
        }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// The next value is something else, or a string with a fault in it.
    pub fn string(&mut self, what: &str) -> Result<Cow<'a, str>, JsonError> {
        match self.peek()? {
            Kind::String => self.quoted(),
            kind => Err(self.wrong(what, "a string", kind)),
        }
    }

    /// Reads a number, or a string that holds one, as the text of the number.
    ///
    /// # Errors
    /// The next value is something else.
    pub fn number(&mut self, what: &str) -> Result<Cow<'a, str>, JsonError> {
        match self.peek()? {
            Kind::Number => self.bare_number().map(Cow::Borrowed),
            Kind::String => {
                let start = self.at;
                let text = self.quoted()?;
                if number_end(text.as_bytes(), 0) == Some(text.len()) {
                    Ok(text)
                } else {
                    Err(self.error_at(start, format!("{what} must be a number, found a string that holds none")))
                }
            }
            kind => Err(self.wrong(what, "a number", kind)),
        }
    }

    /// Reads a whole number that fits.
    ///
    /// # Errors
    /// The next value is something else, has a fraction or an exponent, or does not fit.
    pub fn integer<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, JsonError> {
        let start = self.position();
        let text = self.number(what)?;
        text.parse().map_err(|_| {
            let bits = size_of::<T>() * 8;
            let excerpt: String = text.chars().take(40).collect();
            self.error_at(start, format!("{what} must be a whole number of {bits} bits, found {excerpt}"))
        })
    }

    /// Reads an f64, rounded once. A text beyond its range gives an infinity, for the caller to refuse.
    ///
    /// # Errors
    /// The next value is something else.
    pub fn f64(&mut self, what: &str) -> Result<f64, JsonError> {
        let text = self.number(what)?;
        text.parse().map_err(|_| self.error(format!("{what} must be a number")))
    }

    /// Reads an f32, rounded once. A text beyond its range gives an infinity, for the caller to refuse.
    ///
    /// # Errors
    /// The next value is something else.
    pub fn f32(&mut self, what: &str) -> Result<f32, JsonError> {
        let text = self.number(what)?;
        text.parse().map_err(|_| self.error(format!("{what} must be a number")))
    }

    /// Reads an object; `property` is called before each value, and must read it.
    ///
    /// # Errors
    /// The next value is something else, or `property` fails.
    pub fn object<E: From<JsonError>>(
        &mut self,
        what: &str,
        mut property: impl FnMut(&mut Self, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.peek()? {
            Kind::Object => self.enter()?,
            kind => return Err(self.wrong(what, "an object", kind).into()),
        }
        self.skip_whitespace();
        if self.byte() == Some(b'}') {
            self.leave();
            return Ok(());
        }
        loop {
            self.skip_whitespace();
            if self.byte() != Some(b'"') {
                return Err(self.malformed("expected a property name in quotes").into());
            }
            let name = self.quoted()?;
            self.skip_whitespace();
            if self.byte() != Some(b':') {
                return Err(self.malformed("expected ':'").into());
            }
            self.at += 1;
            property(self, &name)?;
            self.skip_whitespace();
            match self.byte() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.leave();
                    return Ok(());
                }
                _ => return Err(self.malformed("expected ',' or '}'").into()),
            }
        }
    }

    /// Reads an array; `element` is called before each value, and must read it.
    ///
    /// # Errors
    /// The next value is something else, or `element` fails.
    pub fn array<E: From<JsonError>>(
        &mut self,
        what: &str,
        mut element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.peek()? {
            Kind::Array => self.enter()?,
            kind => return Err(self.wrong(what, "an array", kind).into()),
        }
        self.skip_whitespace();
        if self.byte() == Some(b']') {
            self.leave();
            return Ok(());
        }
        loop {
            element(self)?;
            self.skip_whitespace();
            match self.byte() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.leave();
                    return Ok(());
                }
                _ => return Err(self.malformed("expected ',' or ']'").into()),
            }
        }
    }

    /// Reads any value and forgets it. Checks it as it goes.
    ///
    /// # Errors
    /// The value is malformed or nests too deeply.
    pub fn skip(&mut self) -> Result<(), JsonError> {
        match self.peek()? {
            Kind::Object => self.object("", |reader, _| reader.skip()),
            Kind::Array => self.array("", Self::skip),
            Kind::String => self.quoted().map(|_| ()),
            Kind::Number => self.bare_number().map(|_| ()),
            Kind::Bool => self.boolean("").map(|_| ()),
            Kind::Null => self.literal("null"),
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    fn enter(&mut self) -> Result<(), JsonError> {
        if self.depth == DEPTH {
            return Err(self.malformed(&format!("arrays and objects nest deeper than {DEPTH} levels")));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    fn literal(&mut self, literal: &str) -> Result<(), JsonError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal.as_bytes()) {
            return Err(self.malformed("expected a value"));
        }
        self.at += literal.len();
        Ok(())
    }

    fn bare_number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        match number_end(self.text.as_bytes(), start) {
            Some(end) => {
                self.at = end;
                Ok(self.slice(start))
            }
            None => Err(self.malformed("expected a number")),
        }
    }

    /// Reads a string; the current byte is its opening quote.
    fn quoted(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        match self.plain_run()? {
            b'"' => {
                let text = self.slice(start);
                self.at += 1;
                Ok(Cow::Borrowed(text))
            }
            _ => {
                let mut text = self.slice(start).to_owned();
                self.escaped(&mut text)?;
                Ok(Cow::Owned(text))
            }
        }
    }

    /// Goes on until a quote or a backslash, and returns which.
    fn plain_run(&mut self) -> Result<u8, JsonError> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'"' | b'\\' => return Ok(byte),
                0..0x20 => return Err(self.malformed("control characters in strings must be escaped")),
                _ => self.at += 1,
            }
        }
        Err(self.malformed("the string has no end"))
    }

    fn escaped(&mut self, text: &mut String) -> Result<(), JsonError> {
        loop {
            let start = self.at;
            let stop = self.plain_run()?;
            text.push_str(self.slice(start));
            self.at += 1;
            if stop == b'"' {
                return Ok(());
            }
            let escape = self.byte();
            self.at += 1;
            text.push(match escape {
                Some(b'"') => '"',
                Some(b'\\') => '\\',
                Some(b'/') => '/',
                Some(b'b') => '\u{8}',
                Some(b'f') => '\u{c}',
                Some(b'n') => '\n',
                Some(b'r') => '\r',
                Some(b't') => '\t',
                Some(b'u') => self.unicode_escape()?,
                _ => {
                    self.at -= 1;
                    return Err(self.malformed("unknown escape in a string"));
                }
            });
        }
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let first = self.four_digits()?;
        let code = match first {
            0xD800..0xDC00 => {
                let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
                if !rest.starts_with(b"\\u") {
                    return Err(self.malformed("half of a surrogate pair in a string"));
                }
                self.at += 2;
                match self.four_digits()? {
                    second @ 0xDC00..0xE000 => 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                    _ => return Err(self.malformed("half of a surrogate pair in a string")),
                }
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.malformed("half of a surrogate pair in a string"))
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.malformed("\\u needs four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(code)
    }

    fn malformed(&self, what: &str) -> JsonError {
        self.error(format!("Malformed JSON: {what}"))
    }

    fn wrong(&self, what: &str, expected: &str, found: Kind) -> JsonError {
        self.error(format!("{what} must be {expected}, found {}", found.name()))
    }
}

/// The end of the number that begins at `at`, by the grammar of RFC 8259.
fn number_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let digits = |mut at: usize| {
        let start = at;
        while let Some(b'0'..=b'9') = bytes.get(at) {
            at += 1;
        }
        (at > start).then_some(at)
    };
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    at = if bytes.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits(at)?;
    }
    Some(at)
}

fn error_at(bytes: &[u8], at: usize, what: String) -> JsonError {
    let before = bytes.get(..at).unwrap_or(bytes);
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
    JsonError { what, line, column }
}

#[cfg(test)]
mod tests;
