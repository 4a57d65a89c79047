//! Bytes in error texts, as RabbitMQ prints them.

use std::fmt;

/// How many bytes of a payload an error text shows.
const SNIPPET_BYTES_MAX: usize = 16;

/// Bytes in Erlang's plainest notation (`~w`): `<<97,0,255>>`.
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<<")?;
        for (index, byte) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{byte}")?;
        }
        formatter.write_str(">>")
    }
}

/// Bytes in Erlang's notation for people (`~p`): `<<"text">>` if all are printable, else `<<0,255>>`.
struct Octets<'a>(&'a [u8]);

impl fmt::Display for Octets<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.iter().all(|byte| is_printable(*byte)) {
            write!(formatter, "<<\"{}\">>", Escaped(self.0))
        } else {
            Numbers(self.0).fmt(formatter)
        }
    }
}

/// `u8::escape_ascii` would escape single quotes too.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            match byte {
                b'"' => formatter.write_str("\\\"")?,
                b'\\' => formatter.write_str("\\\\")?,
                b'\n' => formatter.write_str("\\n")?,
                b'\r' => formatter.write_str("\\r")?,
                b'\t' => formatter.write_str("\\t")?,
                byte => write!(formatter, "{}", char::from(*byte))?,
            }
        }
        Ok(())
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

/// A payload as framing errors name it: `all octets = <<..>>`, or the first sixteen of them.
pub(crate) struct Snippet<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..SNIPPET_BYTES_MAX) {
            Some(first) if self.0.len() > SNIPPET_BYTES_MAX => {
                write!(formatter, "first 16 octets = {}", Octets(first))
            }
            _ => write!(formatter, "all octets = {}", Octets(self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_text_if_they_can_be() {
        let cases: [(&[u8], &str); 6] = [
            (b"", "<<>>"),
            (b"abc", "<<\"abc\">>"),
            (b"a\"b\\\n", "<<\"a\\\"b\\\\\\n\">>"),
            (b"\0\x14\xff", "<<0,20,255>>"),
            (b"abc\0", "<<97,98,99,0>>"),
            (b"\x7f", "<<127>>"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Octets(bytes).to_string(), expected);
        }
        assert_eq!(Octets(b"it's").to_string(), "<<\"it's\">>");
        assert_eq!(Numbers(b"abc").to_string(), "<<97,98,99>>");
        assert_eq!(Numbers(b"").to_string(), "<<>>");
    }

    #[test]
    fn long_payloads_are_cut() {
        assert_eq!(Snippet(b"").to_string(), "all octets = <<>>");
        assert_eq!(
            Snippet(&[1; 16]).to_string(),
            format!("all octets = {}", Octets(&[1; 16]))
        );
        assert_eq!(
            Snippet(&[1; 17]).to_string(),
            format!("first 16 octets = {}", Octets(&[1; 16]))
        );
    }
}
