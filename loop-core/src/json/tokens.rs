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
            // As the tokens are, but no token is needed.
            let rest = self.text.as_bytes().get(self.at..)?;
            let byte = rest.first()?;
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += if *byte == b'"' { string(rest)? } else { 1 };
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
#[inline]
fn string(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += quote_or_backslash(text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        // What is escaped, a quote or another backslash, ends nothing.
        at += 2;
    }
}

/// Where the first quote or backslash is. Most strings are so short that a call for the wide instructions takes longer than eight bytes at a
/// time in a register.
#[inline]
fn quote_or_backslash(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let (chunks, _) = text.as_chunks::<8>();
    let mut at = 0;
    for chunk in chunks.iter().take(8) {
        let chunk = u64::from_le_bytes(*chunk);
        // The lowest of the high bits that are set is that of the first byte that is zero; those above may be set in error.
        let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes & (ONES << 7);
        let found = zero(chunk ^ (ONES * u64::from(b'"'))) | zero(chunk ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', text.get(at..)?).map(|found| at + found)
}
