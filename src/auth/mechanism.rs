//! SASL mechanisms: how a client says who it is.

use std::fmt;

/// A mechanism that connection.start may offer. None of them sends a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616: `\0user\0password`.
    Plain,
    /// A field table without its length, with the long strings LOGIN and PASSWORD (AMQP 0-8, kept by
    /// RabbitMQ and by older clients).
    AmqPlain,
    /// RFC 4505, for clients that do not say who they are. The response is not looked at.
    Anonymous,
}

impl Mechanism {
    /// The mechanism of that name, which is given in capitals.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "PLAIN" => Some(Self::Plain),
            "AMQPLAIN" => Some(Self::AmqPlain),
            "ANONYMOUS" => Some(Self::Anonymous),
            _ => None,
        }
    }

    /// The name in connection.start.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::Anonymous => "ANONYMOUS",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What a client claims to be.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials<'a> {
    /// Not shown by `Debug` either: a client may have swapped the two.
    pub(super) user: &'a [u8],
    pub(super) password: &'a [u8],
}

/// `None` unless the response has exactly the form of the mechanism. As in RabbitMQ the first part,
/// RFC 4616's identity to act as, must be empty.
pub(super) fn plain(response: &[u8]) -> Option<Credentials<'_>> {
    let mut parts = response.split(|byte| *byte == 0);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some([]), Some(user), Some(password), None) => Some(Credentials { user, password }),
        _ => None,
    }
}

/// `None` unless the response is a table of long strings with LOGIN and PASSWORD.
///
/// RabbitMQ would read a table with other types of values too. No client sends one, and a parser without
/// recursion cannot be driven out of its stack by somebody who is not logged in yet.
pub(super) fn amq_plain(mut response: &[u8]) -> Option<Credentials<'_>> {
    let (mut login, mut password) = (None, None);
    while let Some((&name_bytes, rest)) = response.split_first() {
        let (name, rest) = rest.split_at_checked(name_bytes.into())?;
        let rest = rest.strip_prefix(b"S")?;
        let (value_bytes, rest) = rest.split_first_chunk()?;
        let value_bytes = usize::try_from(u32::from_be_bytes(*value_bytes)).ok()?;
        let (value, rest) = rest.split_at_checked(value_bytes)?;
        match name {
            b"LOGIN" => login = Some(value),
            b"PASSWORD" => password = Some(value),
            _ => {}
        }
        response = rest;
    }
    Some(Credentials {
        user: login?,
        password: password?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair<'a> = (&'a [u8], &'a [u8]);

    fn read<'a>(credentials: Option<Credentials<'a>>) -> Option<Pair<'a>> {
        credentials.map(|credentials| (credentials.user, credentials.password))
    }

    #[test]
    fn plain_is_an_empty_identity_a_user_and_a_password() {
        let cases: [(&[u8], Option<Pair<'_>>); 8] = [
            (b"\0guest\0secret", Some((b"guest", b"secret"))),
            (b"\0guest\0", Some((b"guest", b""))),
            (b"\0\0", Some((b"", b""))),
            (b"\0guest", None),
            (b"guest\0secret", None),
            (b"other\0guest\0secret", None),
            (b"\0guest\0secret\0", None),
            (b"", None),
        ];
        for (response, expected) in cases {
            assert_eq!(read(plain(response)), expected, "{response:?}");
        }
    }

    #[test]
    fn amqplain_is_a_table_of_long_strings() {
        let login = b"\x05LOGINS\0\0\0\x05guest";
        let password = b"\x08PASSWORDS\0\0\0\x06secret";
        let other = b"\x01xS\0\0\0\0";
        let expected = Some((&b"guest"[..], &b"secret"[..]));
        assert_eq!(read(amq_plain(&[&login[..], password].concat())), expected);
        let turned = [&password[..], other, login].concat();
        assert_eq!(read(amq_plain(&turned)), expected);
        assert_eq!(read(amq_plain(login)), None);
        assert_eq!(read(amq_plain(b"")), None);
        for end in 1..turned.len() {
            assert_eq!(read(amq_plain(&turned[..end])), None, "{end}");
        }
        let nested = [&login[..], password, b"\x01xF\0\0\0\0"].concat();
        assert_eq!(read(amq_plain(&nested)), None);
    }
}
