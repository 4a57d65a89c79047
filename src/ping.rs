//! `leveret ping`: does a broker answer on this port? Made for health checks: it starts no runtime, opens
//! no store and needs no password.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use leveret::config::{AMQP_PORT, Config, ConfigErrors};

#[derive(clap::Args)]
pub(crate) struct PingArgs {
    /// Name or address to connect to [default: that of the configured listener]
    #[arg(long)]
    host: Option<String>,
    /// Port to connect to [default: that of the configured listener]
    #[arg(long)]
    port: Option<u16>,
    /// Seconds to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// Why nobody can be said to be there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PingError {
    #[error("the configuration is wrong:\n{0}")]
    Config(#[from] ConfigErrors),
    #[error("no TCP listener is configured: give --port")]
    NoListener,
    #[error("{0}: no such host: {1}")]
    UnknownHost(String, io::Error),
    #[error("no answer from {0}: {1}")]
    Unreachable(SocketAddr, io::Error),
    #[error("no broker at {0}: {1}")]
    NoBroker(SocketAddr, &'static str),
}

/// Says AMQP's protocol header and expects connection.start.
pub(crate) fn run(
    args: &PingArgs,
    load: impl FnOnce() -> Result<Config, ConfigErrors>,
) -> Result<(), PingError> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let address = address(args, load)?;
    greet(address, deadline)
        .map_err(|error| PingError::Unreachable(address, error))?
        .map_err(|problem| PingError::NoBroker(address, problem))
}

/// The configuration is read only if the arguments leave something open.
fn address(
    args: &PingArgs,
    load: impl FnOnce() -> Result<Config, ConfigErrors>,
) -> Result<SocketAddr, PingError> {
    let port = match (args.port, &args.host) {
        (Some(port), _) => port,
        (None, Some(_)) => AMQP_PORT,
        (None, None) => {
            let listener = load()?.listeners.first().copied();
            return listener.map(reachable).ok_or(PingError::NoListener);
        }
    };
    let Some(host) = &args.host else {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    };
    let unknown = |error| PingError::UnknownHost(host.clone(), error);
    let mut addresses = (host.as_str(), port).to_socket_addrs().map_err(unknown)?;
    addresses
        .next()
        .ok_or_else(|| unknown(io::ErrorKind::NotFound.into()))
}

/// A listener on all interfaces is reached through the loopback one.
fn reachable(listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listener.port());
    }
    listener
}

const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// The start of connection.start: a method frame (1) on channel 0, four bytes of size, class 10, method
/// 10, version 0-9.
const HEAD_BYTES: usize = 13;
/// No broker's connection.start comes near this size.
const PAYLOAD_BYTES_MAX: u32 = 128 * 1024;
const FRAME_END: u8 = 0xCE;

/// The inner result says what is wrong with an answer that came.
fn greet(address: SocketAddr, deadline: Instant) -> io::Result<Result<(), &'static str>> {
    let mut stream = TcpStream::connect_timeout(&address, time_left(deadline)?)?;
    stream.set_write_timeout(Some(time_left(deadline)?))?;
    stream.write_all(PROTOCOL_HEADER)?;
    let mut head = [0; HEAD_BYTES];
    read_exact(&mut stream, &mut head[..PROTOCOL_HEADER.len()], deadline)?;
    if head.starts_with(b"AMQP") {
        return Ok(Err("the broker speaks another version of AMQP"));
    }
    if head[..3] != [1, 0, 0] {
        return Ok(Err("the answer is not AMQP"));
    }
    read_exact(&mut stream, &mut head[PROTOCOL_HEADER.len()..], deadline)?;
    let [
        _,
        _,
        _,
        size @ ..,
        class_high,
        class,
        method_high,
        method,
        major,
        minor,
    ] = head;
    let size = u32::from_be_bytes(size);
    if [class_high, class, method_high, method, major, minor] != [0, 10, 0, 10, 0, 9] {
        return Ok(Err("the answer is not connection.start"));
    }
    if !(6..=PAYLOAD_BYTES_MAX).contains(&size) {
        return Ok(Err("the answer has an unlikely size"));
    }
    let mut rest = vec![0; size as usize - 6 + 1];
    read_exact(&mut stream, &mut rest, deadline)?;
    Ok(if rest.last() == Some(&FRAME_END) {
        Ok(())
    } else {
        Err("the answer does not end as a frame does")
    })
}

/// A whole `buffer` before the deadline, however slowly the bytes come in.
fn read_exact(stream: &mut TcpStream, buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        stream.set_read_timeout(Some(time_left(deadline)?))?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => {
                return Err(io::Error::other(
                    "the connection was closed without an answer",
                ));
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(timed_out())
    } else {
        Ok(left)
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Pings a peer that reads the protocol header, answers with `answer` and hangs up.
    fn check(answer: Vec<u8>, expected: Result<(), &str>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut header = [0; 8];
            stream.read_exact(&mut header).expect("a protocol header");
            assert_eq!(&header, PROTOCOL_HEADER);
            stream.write_all(&answer).expect("the answer is sent");
        });
        let args = PingArgs {
            host: None,
            port: Some(address.port()),
            timeout: 60,
        };
        let result = run(&args, || unreachable!("the port is given"));
        peer.join().expect("the peer is content");
        let problem = result.map_err(|error| error.to_string());
        let problem = problem.map_err(|text| text.rsplit(": ").next().map(ToOwned::to_owned));
        assert_eq!(
            problem,
            expected.map_err(|problem| Some(problem.to_owned()))
        );
    }

    fn start(payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len())
            .expect("a small payload")
            .to_be_bytes();
        [&[1, 0, 0], &size[..], payload, &[FRAME_END]].concat()
    }

    #[test]
    fn connection_start_is_an_answer() {
        check(
            start(b"\x00\x0a\x00\x0a\x00\x09 properties and mechanisms"),
            Ok(()),
        );
    }

    #[test]
    fn anything_else_is_none() {
        check(
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            Err("the answer is not AMQP"),
        );
        check(
            b"AMQP\x03\x01\x00\x00".to_vec(),
            Err("the broker speaks another version of AMQP"),
        );
        check(
            start(b"\x00\x0a\x00\x32\x00\x09\x00\x00"),
            Err("the answer is not connection.start"),
        );
        check(
            b"\x01\x00\x00\xff\xff\xff\xff\x00\x0a\x00\x0a\x00\x09".to_vec(),
            Err("the answer has an unlikely size"),
        );
        let mut unended = start(b"\x00\x0a\x00\x0a\x00\x09 properties");
        unended.pop();
        unended.push(0);
        check(unended, Err("the answer does not end as a frame does"));
        check(vec![], Err("the connection was closed without an answer"));
        check(
            b"\x01\x00\x00\x00\x00".to_vec(),
            Err("the connection was closed without an answer"),
        );
    }

    #[test]
    fn nobody_there_is_an_error() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let error = greet(address, Instant::now() + Duration::from_secs(60)).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_silent_peer_is_given_up_at_the_deadline() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let error =
            greet(address, Instant::now() + Duration::from_millis(50)).expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_configured_listener_is_the_default() {
        let args = PingArgs {
            host: None,
            port: None,
            timeout: 1,
        };
        let configured = |listener: &str| {
            let listeners = vec![listener.parse().expect("an address")];
            address(&args, || {
                Ok(Config {
                    listeners,
                    ..Config::default()
                })
            })
            .expect("an address")
            .to_string()
        };
        assert_eq!(configured("127.0.0.1:5673"), "127.0.0.1:5673");
        assert_eq!(configured("[::]:5673"), "127.0.0.1:5673");
        assert_eq!(configured("0.0.0.0:5673"), "127.0.0.1:5673");
        assert_eq!(configured("[::1]:5673"), "[::1]:5673");
        let none = address(&args, || {
            Ok(Config {
                listeners: vec![],
                ..Config::default()
            })
        });
        assert!(matches!(none, Err(PingError::NoListener)));
    }
}
