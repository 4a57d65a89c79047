//! Messages in a row that differ in their bodies only: what a busy publisher sends.

use super::record::{Body, NewMessage};

/// One message, and more like it.
#[derive(Debug, Clone, Copy)]
pub struct Run<'m> {
    /// The first.
    pub first: &'m NewMessage<'m>,
    /// Bodies of the others. If there are any, all bodies are inline.
    pub repeated: &'m [&'m [u8]],
}

impl<'m> Run<'m> {
    /// One message alone.
    pub const fn single(message: &'m NewMessage<'m>) -> Self {
        Self {
            first: message,
            repeated: &[],
        }
    }

    /// Number of messages.
    pub const fn count(&self) -> usize {
        1 + self.repeated.len()
    }

    /// Bytes of all bodies.
    pub fn body_bytes(&self) -> usize {
        let others = self.repeated.iter().map(|body| body.len());
        self.first.body.len() + others.sum::<usize>()
    }

    /// The messages, each on its own.
    pub fn messages(self) -> impl Iterator<Item = NewMessage<'m>> {
        let first = self.first;
        let others = self.repeated.iter().map(|body| NewMessage {
            body: Body::Inline(body),
            ..first.clone()
        });
        std::iter::once(first.clone()).chain(others)
    }
}
