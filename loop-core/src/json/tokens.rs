//! The tokens of JSON that is known to be valid: nothing is checked a second time, and strings are passed over at the speed of memory.

use memchr::memchr2;

/// Reads a valid JSON text. Its tokens are brackets, strings with their quotes, numbers and words, each as it is written; what stands between
/// them is left out. Of a text that is not valid, some tokens or none are found.
#[derive(Clone)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) const fn of(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next value, with all that is in it.
    pub(super) fn value(&mut self) -> Option<&'a str> {
        let first = self.next()?;
        let begin = self.at - first.len();
        let mut depth = deeper(0, first);
        while depth > 0 {
            depth = deeper(depth, self.next()?);
        }
        self.text.get(begin..self.at)
    }
}

/// How deep what follows this token is.
pub(super) fn deeper(depth: usize, token: &str) -> usize {
    match token.as_bytes() {
        [b'{' | b'[', ..] => depth + 1,
        [b'}' | b']', ..] => depth.saturating_sub(1),
        _ => depth,
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let between = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':');
        let begin = self.at + rest.iter().position(|byte| !between(byte))?;
        let rest = self.text.as_bytes().get(begin..)?;
        let length = match rest.first()? {
            b'{' | b'}' | b'[' | b']' => 1,
            b'"' => string(rest)?,
            _ => rest.iter().position(|byte| between(byte) || matches!(byte, b'}' | b']')).unwrap_or(rest.len()),
        };
        self.at = begin + length;
        self.text.get(begin..self.at)
    }
}

/// How long the string is that this begins with.
fn string(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        // What is escaped, a quote or another backslash, ends nothing.
        at += 2;
    }
}
