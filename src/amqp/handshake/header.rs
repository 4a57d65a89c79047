//! The first eight bytes: which protocol, and in which version.

use std::fmt;

pub(super) const HEADER_BYTES: usize = 8;

/// What is offered to those who ask for another protocol: the version that is spoken here, as the
/// specification wants it (section 2.2.4).
pub(super) const OWN_HEADER: [u8; HEADER_BYTES] = *b"AMQP\x00\x00\x09\x01";

/// AMQP 1.0 with SASL. RabbitMQ 4 offers it to peers that speak nothing of the 0-9 family.
const SASL_1_0_HEADER: [u8; HEADER_BYTES] = *b"AMQP\x03\x01\x00\x00";

/// The version that connection.start names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) major: u8,
    pub(super) minor: u8,
}

/// Somebody who does not speak AMQP 0-9-1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignProtocol([u8; HEADER_BYTES]);

/// Reads the protocol header. 0-9-1 is spoken, and 0-9, which is the same on the wire.
pub(super) fn read(header: [u8; HEADER_BYTES]) -> Result<Version, ForeignProtocol> {
    match &header {
        b"AMQP\x00\x00\x09\x01" | b"AMQP\x01\x01\x00\x09" => Ok(Version { major: 0, minor: 9 }),
        _ => Err(ForeignProtocol(header)),
    }
}

impl ForeignProtocol {
    /// What it gets back before the connection is closed.
    pub(super) fn answer(&self) -> [u8; HEADER_BYTES] {
        match self.0 {
            [b'A', b'M', b'Q', b'P', 0, 0, minor, _] if minor >= 9 => OWN_HEADER,
            // Who speaks AMQP 1.0 already must not take the answer for a welcome.
            [b'A', b'M', b'Q', b'P', _, 1, 0, 0] => OWN_HEADER,
            _ => SASL_1_0_HEADER,
        }
    }
}

impl fmt::Display for ForeignProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [b'A', b'M', b'Q', b'P', a, b, c, d] => {
                write!(formatter, "AMQP version {a}.{b}.{c}.{d} is not supported")
            }
            [b'G', b'E', b'T', b' ', ..] => formatter.write_str("HTTP GET request on an AMQP port"),
            // A record of type handshake, version 3.x, holding a client hello.
            [0x16, 0x03, _, _, _, 0x01, ..] => {
                formatter.write_str("TLS client on an AMQP port without TLS")
            }
            header => write!(
                formatter,
                "client did not start with the AMQP protocol header: '{}'",
                header.escape_ascii()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_answers_are_rabbitmqs() {
        let accepted = Ok(Version { major: 0, minor: 9 });
        assert_eq!(read(*b"AMQP\x00\x00\x09\x01"), accepted);
        assert_eq!(read(*b"AMQP\x01\x01\x00\x09"), accepted);
        for (header, answer, log) in [
            (
                b"AMQP\x00\x00\x09\x00",
                OWN_HEADER,
                "AMQP version 0.0.9.0 is",
            ),
            (
                b"AMQP\x00\x00\x0a\x00",
                OWN_HEADER,
                "AMQP version 0.0.10.0 is",
            ),
            (
                b"AMQP\x03\x01\x00\x00",
                OWN_HEADER,
                "AMQP version 3.1.0.0 is",
            ),
            (
                b"AMQP\x00\x01\x00\x00",
                OWN_HEADER,
                "AMQP version 0.1.0.0 is",
            ),
            (
                b"AMQP\x01\x01\x08\x00",
                SASL_1_0_HEADER,
                "AMQP version 1.1.8.0 is",
            ),
            (b"GET / HT", SASL_1_0_HEADER, "HTTP GET"),
            (
                b"\x16\x03\x01\x02\x00\x01\x00\x01",
                SASL_1_0_HEADER,
                "TLS client",
            ),
            (
                b"abc\x00\xffghi",
                SASL_1_0_HEADER,
                "client did not start with",
            ),
        ] {
            let foreign = read(*header).unwrap_err();
            assert_eq!(foreign.answer(), answer, "{foreign}");
            assert!(foreign.to_string().starts_with(log), "{foreign}");
        }
    }
}
