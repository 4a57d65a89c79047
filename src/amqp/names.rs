//! Names as they come from clients and go to them.

use std::sync::Arc;

use amq_protocol::types::ShortString;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Short strings hold at most this many bytes.
const SHORT_STRING_BYTES_MAX: usize = 255;

/// `text` as a short string, cut on a UTF-8 boundary to what fits.
pub fn short_string(text: &str) -> ShortString {
    let mut end = text.len().min(SHORT_STRING_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::try_new(&text[..end]).unwrap_or_default()
}

/// A name with CR and LF stripped, as RabbitMQ does (semantics row 11).
pub fn stripped(name: &str) -> Arc<str> {
    if name.contains(['\r', '\n']) {
        name.chars()
            .filter(|character| !matches!(character, '\r' | '\n'))
            .collect::<String>()
            .into()
    } else {
        name.into()
    }
}

/// A name that nobody else has: `prefix` and 16 random bytes in base64url, as RabbitMQ makes them.
pub fn generated(prefix: &str) -> Arc<str> {
    let mut random = [0u8; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        // Without randomness no name is safe; the kernel's source does not fail once it is seeded.
        tracing::error!(%error, "no random bytes for a generated name");
    }
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random)).into()
}
