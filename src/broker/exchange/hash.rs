//! A hash that is the same in every process, version and machine: messages with the same key go the same way after a
//! restart. FNV-1a over the bytes, finished by the mixer of SplitMix64: FNV alone leaves similar keys close together.

/// Hashes `bytes`, differently for each `seed`.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    let hash = bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash)
}

/// Every bit of the input changes half of the output's.
pub(super) const fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_never_change() {
        // Where messages of a key go would change with them.
        assert_eq!(hash(0, b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(mix(1), 0x5692_161d_100b_05e5);
        assert_eq!(hash(0, b"a"), mix(0xaf63_dc4c_8601_ec8c));
        assert_ne!(hash(1, b"a"), hash(0, b"a"));
    }
}
