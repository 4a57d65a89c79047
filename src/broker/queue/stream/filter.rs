//! Filters: which messages of a stream a consumer wants, and which chunks cannot have any of them.
//!
//! A publisher names a message's filter value in the header `x-stream-filter-value`. Each chunk remembers in a Bloom
//! filter (`x-stream-filter-size-bytes`) which values it may hold, so that a consumer with `x-stream-filter` passes
//! over whole chunks without reading them. Unlike RabbitMQ, which leaves the rest to its clients, what is delivered is
//! then filtered exactly, message by message.

use crate::message::field;
use crate::message::properties::{Properties, header};
use crate::message::record::RecordRef;

const VALUE_HEADER: &[u8] = b"x-stream-filter-value";

/// Bits that a value sets.
const PROBES: u64 = 4;

/// What a consumer wants of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    values: Vec<Box<[u8]>>,
    match_unfiltered: bool,
}

impl Filter {
    /// Messages with one of these filter values; with `match_unfiltered` also those without any.
    pub fn new(values: impl IntoIterator<Item = Vec<u8>>, match_unfiltered: bool) -> Self {
        Self {
            values: values.into_iter().map(Vec::into_boxed_slice).collect(),
            match_unfiltered,
        }
    }

    /// Whether a message with this filter value is wanted.
    pub(super) fn takes(&self, value: Option<&[u8]>) -> bool {
        match value {
            Some(value) => self.values.iter().any(|wanted| **wanted == *value),
            None => self.match_unfiltered,
        }
    }

    /// Whether a chunk can have messages that are wanted. Never wrong when it says no.
    pub(super) fn may_be_in(&self, summary: &Summary) -> bool {
        (self.match_unfiltered && summary.unfiltered)
            || self.values.iter().any(|value| summary.may_have(value))
    }
}

/// The filter value of a message with these properties.
pub(super) fn value_of(properties: &[u8]) -> Option<&[u8]> {
    let headers = Properties::read(properties).ok()?.headers?;
    field::long_string(header(headers, VALUE_HEADER)?)
}

/// The filter value of a stored message.
pub(super) fn value_of_record<'a>(record: &RecordRef<'a>) -> Option<&'a [u8]> {
    value_of(record.properties())
}

/// Which filter values a chunk has: a Bloom filter, empty while there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) bits: Box<[u8]>,
    /// Some message has no filter value.
    pub(super) unfiltered: bool,
}

impl Summary {
    /// Adds a message's value. `size_bytes` (16 to 255) counts for the first one.
    pub(super) fn add(&mut self, value: Option<&[u8]>, size_bytes: u8) {
        let Some(value) = value else {
            self.unfiltered = true;
            return;
        };
        if self.bits.is_empty() {
            self.bits = vec![0; usize::from(size_bytes.max(1))].into();
        }
        for bit in probes(value, self.bits.len()) {
            self.bits[bit / 8] |= 1 << (bit % 8);
        }
    }

    fn may_have(&self, value: &[u8]) -> bool {
        !self.bits.is_empty()
            && probes(value, self.bits.len()).all(|bit| self.bits[bit / 8] & (1 << (bit % 8)) != 0)
    }
}

/// The bits of a value in a filter of `size` bytes. On disk: must never change.
fn probes(value: &[u8], size: usize) -> impl Iterator<Item = usize> {
    let hash = hash(value);
    let (start, step) = (hash & 0xFFFF_FFFF, (hash >> 32) | 1);
    let bits = size as u64 * 8;
    (0..PROBES).map(move |probe| (start.wrapping_add(probe.wrapping_mul(step)) % bits) as usize)
}

/// FNV-1a with a finishing mix (MurmurHash3's), so that short values differ in all bits.
fn hash(value: &[u8]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in value {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(values: &[&str], match_unfiltered: bool) -> Filter {
        let values = values.iter().map(|value| value.as_bytes().to_vec());
        Filter::new(values, match_unfiltered)
    }

    #[test]
    fn a_filter_takes_its_values_and_on_request_messages_without_one() {
        let some = filter(&["a", "b"], false);
        assert!(some.takes(Some(b"a")) && some.takes(Some(b"b")));
        assert!(!some.takes(Some(b"c")) && !some.takes(None));
        assert!(filter(&["a"], true).takes(None));
    }

    #[test]
    fn a_chunk_is_never_passed_over_that_has_a_wanted_message() {
        let mut summary = Summary::default();
        assert!(!filter(&["v0"], true).may_be_in(&summary));
        for number in 0..50 {
            let value = format!("v{number}");
            summary.add(Some(value.as_bytes()), 64);
            assert!(filter(&[&value], false).may_be_in(&summary));
        }
        assert!(!filter(&["other"], true).may_be_in(&Summary::default()));
        summary.add(None, 64);
        assert!(filter(&[], true).may_be_in(&summary));
    }

    #[test]
    fn most_chunks_without_a_wanted_message_are_passed_over() {
        let mut summary = Summary::default();
        for number in 0..20 {
            summary.add(Some(format!("v{number}").as_bytes()), 32);
        }
        let strangers = (0..1000).map(|number| format!("stranger {number}"));
        let wrong = strangers.filter(|value| filter(&[value], false).may_be_in(&summary));
        // 80 of 256 bits at most: (80/256)^4 is one in a hundred.
        assert!(wrong.count() < 50);
    }

    #[test]
    fn the_value_is_a_long_string_among_the_headers() {
        let mut entries = Vec::new();
        field::put_name(&mut entries, b"n");
        field::put_long(&mut entries, 1);
        field::put_name(&mut entries, VALUE_HEADER);
        field::put_long_string(&mut entries, b"red");
        let mut properties = vec![0x20, 0];
        properties.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        properties.extend_from_slice(&entries);
        assert_eq!(value_of(&properties), Some(&b"red"[..]));
        assert_eq!(value_of(&[0, 0]), None);
        assert_eq!(value_of(&[]), None);
    }
}
