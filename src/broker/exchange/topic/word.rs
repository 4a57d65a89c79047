//! One word of a binding key.

/// So many bytes are kept in place. Words are short, and a node of the trie is to fit into one line of the cache.
const INLINE_BYTES_MAX: usize = 14;

/// A word, compared more often than anything else in a topic exchange.
pub(super) enum Word {
    /// Its length and its bytes.
    Short(u8, [u8; INLINE_BYTES_MAX]),
    /// Behind a thin pointer.
    Long(Box<Box<[u8]>>),
}

impl Word {
    pub(super) fn new(word: &[u8]) -> Self {
        let mut bytes = [0; INLINE_BYTES_MAX];
        match bytes.get_mut(..word.len()) {
            Some(place) => {
                place.copy_from_slice(word);
                Self::Short(word.len() as u8, bytes)
            }
            None => Self::Long(Box::new(word.into())),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(word) => word,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_every_length_are_kept() {
        for length in [0, 1, 13, 14, 15, 255] {
            let word = "w".repeat(length);
            assert_eq!(Word::new(word.as_bytes()).as_bytes(), word.as_bytes());
        }
        assert_eq!(size_of::<Word>(), 16);
    }
}
