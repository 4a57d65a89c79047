//! Passwords as RabbitMQ stores them: base64 of a four-byte salt and the digest of salt and password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

const SALT_BYTES: usize = 4;

/// How a stored password was hashed. New ones are always [`Self::Sha256`]; the others come with
/// definitions that were exported from a RabbitMQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashingAlgorithm {
    #[serde(rename = "rabbit_password_hashing_sha256")]
    Sha256,
    #[serde(rename = "rabbit_password_hashing_sha512")]
    Sha512,
    #[serde(rename = "rabbit_password_hashing_md5")]
    Md5,
}

impl HashingAlgorithm {
    fn digest(self, salt: &[u8], password: &[u8]) -> Vec<u8> {
        fn of<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
            D::new()
                .chain_update(salt)
                .chain_update(password)
                .finalize()
                .to_vec()
        }
        match self {
            Self::Sha256 => of::<Sha256>(salt, password),
            Self::Sha512 => of::<Sha512>(salt, password),
            Self::Md5 => of::<Md5>(salt, password),
        }
    }

    fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Md5 => 16,
        }
    }
}

/// A salted password. Shows itself as base64, never the password, which it does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Encoded", into = "Encoded")]
pub struct PasswordHash {
    algorithm: HashingAlgorithm,
    salt: [u8; SALT_BYTES],
    digest: Vec<u8>,
}

/// A text that is no password hash of the stated algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the base64 of a four-byte salt and a digest of the stated algorithm")]
pub struct MalformedHash;

impl PasswordHash {
    /// Hashes `password` with SHA-256 and a new salt from the system's random numbers, as RabbitMQ does
    /// since 4.3.3.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(password: &str) -> Result<Self, getrandom::Error> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        Ok(Self::salted(salt, password))
    }

    fn salted(salt: [u8; SALT_BYTES], password: &str) -> Self {
        let algorithm = HashingAlgorithm::Sha256;
        Self {
            algorithm,
            salt,
            digest: algorithm.digest(&salt, password.as_bytes()),
        }
    }

    /// A hash that no password has: for users that log in without one, and for timing.
    pub fn matching_nothing() -> Self {
        Self {
            algorithm: HashingAlgorithm::Sha256,
            salt: [0; SALT_BYTES],
            digest: vec![0; HashingAlgorithm::Sha256.digest_bytes()],
        }
    }

    /// Reads a hash as it stands in RabbitMQ's definitions (`password_hash`, `hashing_algorithm`).
    ///
    /// # Errors
    /// The text is no hash of that algorithm.
    pub fn decode(algorithm: HashingAlgorithm, base64: &str) -> Result<Self, MalformedHash> {
        let bytes = BASE64.decode(base64).map_err(|_| MalformedHash)?;
        let (salt, digest) = bytes.split_first_chunk().ok_or(MalformedHash)?;
        if digest.len() != algorithm.digest_bytes() {
            return Err(MalformedHash);
        }
        Ok(Self {
            algorithm,
            salt: *salt,
            digest: digest.to_vec(),
        })
    }

    /// The text that [`Self::decode`] reads.
    pub fn encode(&self) -> String {
        BASE64.encode([&self.salt, &self.digest[..]].concat())
    }

    /// How the password was hashed.
    pub fn algorithm(&self) -> HashingAlgorithm {
        self.algorithm
    }

    /// Whether this is the hash of `password`. Takes the same time wherever they differ.
    pub fn matches(&self, password: &[u8]) -> bool {
        let digest = self.algorithm.digest(&self.salt, password);
        let differing = digest
            .iter()
            .zip(&self.digest)
            .fold(0, |differing, (a, b)| differing | (a ^ b));
        // The barrier keeps the compiler from leaving the loop at the first difference.
        std::hint::black_box(differing) == 0
    }
}

/// The form in RabbitMQ's definitions.
#[derive(Serialize, Deserialize)]
struct Encoded {
    password_hash: String,
    hashing_algorithm: HashingAlgorithm,
}

impl From<PasswordHash> for Encoded {
    fn from(hash: PasswordHash) -> Self {
        Self {
            password_hash: hash.encode(),
            hashing_algorithm: hash.algorithm,
        }
    }
}

impl TryFrom<Encoded> for PasswordHash {
    type Error = MalformedHash;

    fn try_from(encoded: Encoded) -> Result<Self, MalformedHash> {
        Self::decode(encoded.hashing_algorithm, &encoded.password_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_hash_only() {
        let hash = PasswordHash::new("secret").unwrap();
        assert!(hash.matches(b"secret"));
        assert!(!hash.matches(b"secres"));
        assert!(!hash.matches(b"secre"));
        assert!(!hash.matches(b""));
        assert!(!PasswordHash::matching_nothing().matches(b""));
    }

    #[test]
    fn every_hash_has_its_own_salt() {
        let hashes: Vec<_> = (0..8).map(|_| PasswordHash::new("x").unwrap()).collect();
        assert!(hashes.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn the_example_of_rabbitmqs_documentation_is_reproduced() {
        // "Passwords" in RabbitMQ's documentation: salt 908D C60A, password test12.
        let documented = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        let hash = PasswordHash::salted([0x90, 0x8d, 0xc6, 0x0a], "test12");
        assert_eq!(hash.encode(), documented);
        let decoded = PasswordHash::decode(HashingAlgorithm::Sha256, documented).unwrap();
        assert!(decoded.matches(b"test12"));
    }

    #[test]
    fn older_and_longer_digests_are_verified() {
        for algorithm in [HashingAlgorithm::Sha512, HashingAlgorithm::Md5] {
            let salt = [1, 2, 3, 4];
            let hash = PasswordHash {
                algorithm,
                salt,
                digest: algorithm.digest(&salt, "pässword".as_bytes()),
            };
            let decoded = PasswordHash::decode(algorithm, &hash.encode()).unwrap();
            assert!(decoded.matches("pässword".as_bytes()));
            assert!(!decoded.matches(b"password"));
        }
        // md5("\1\2\3\4" + "a"), from md5sum.
        let hash = PasswordHash::decode(HashingAlgorithm::Md5, MD5_OF_A).unwrap();
        assert!(hash.matches(b"a"));
    }

    const MD5_OF_A: &str = "AQIDBI691/kbkhZqw5z/OKJ2kAA=";

    #[test]
    fn a_hash_of_another_length_is_refused() {
        let hash = PasswordHash::new("x").unwrap().encode();
        for (algorithm, text) in [
            (HashingAlgorithm::Sha512, hash.as_str()),
            (HashingAlgorithm::Sha256, "AAAA"),
            (HashingAlgorithm::Sha256, ""),
            (HashingAlgorithm::Sha256, "not base64!"),
        ] {
            assert_eq!(PasswordHash::decode(algorithm, text), Err(MalformedHash));
        }
    }
}
