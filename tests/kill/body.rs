//! Message bodies that say who they are and prove that they are whole.

use crate::ledger::MessageId;
use crate::support::random::Random;

const HEAD_BYTES: usize = 24;

/// Builds the body of a message: publisher, number, length, then bytes that follow from those.
pub(crate) fn build(message: MessageId, length: usize) -> Vec<u8> {
    let length = length.max(HEAD_BYTES);
    let mut body = Vec::with_capacity(length + 8);
    body.extend(u64::from(message.publisher).to_be_bytes());
    body.extend(message.number.to_be_bytes());
    body.extend((length as u64).to_be_bytes());
    let mut filler = Random::new(message.number << 16 | u64::from(message.publisher));
    while body.len() < length {
        body.extend(filler.next().to_be_bytes());
    }
    body.truncate(length);
    body
}

/// Reads who a body belongs to; `None` when a single byte of it is not as it was built.
pub(crate) fn read(body: &[u8]) -> Option<MessageId> {
    let word = |index: usize| {
        let bytes = body.get(index * 8..index * 8 + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let message = MessageId {
        publisher: u32::try_from(word(0)?).ok()?,
        number: word(1)?,
    };
    let length = usize::try_from(word(2)?).ok()?;
    (length == body.len() && build(message, length) == body).then_some(message)
}

#[test]
fn a_body_is_recognized_unless_a_byte_is_wrong() {
    let message = MessageId {
        publisher: 3,
        number: 77,
    };
    for length in [0, 24, 25, 1000] {
        let mut body = build(message, length);
        assert_eq!(read(&body), Some(message));
        let last = body.len() - 1;
        body[last] ^= 1;
        assert_eq!(read(&body), None);
        body.pop();
        assert_eq!(read(&body), None);
    }
}
