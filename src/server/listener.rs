//! Sockets that listen. They are bound before the store is opened, so that a taken port is known at once, and listen
//! only after it is, so that nobody connects to a broker that does not know its queues yet.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::TcpListener;

use super::socket;
use crate::config::Config;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;

/// A socket with an address, not listening yet.
#[derive(Debug)]
pub(super) struct Bound {
    socket: Socket,
}

impl Bound {
    /// Binds one of the configured addresses; `all` are needed to tell whether `[::]` has to serve IPv4 as well.
    pub(super) fn bind(address: SocketAddr, all: &[SocketAddr]) -> io::Result<Self> {
        let is_for_both = address.ip().is_unspecified() && address.is_ipv6();
        let socket = match Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        ) {
            // A host without IPv6: all its interfaces are IPv4.
            Err(error) if is_for_both && is_unsupported(&error) => {
                return Self::bind(
                    SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())),
                    all,
                );
            }
            socket => socket?,
        };
        if address.is_ipv6() {
            let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            socket.set_only_v6(!is_for_both || all.contains(&ipv4))?;
        }
        // A restarted broker must not wait for the connections of its predecessor to be forgotten.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        match socket.bind(&SockAddr::from(address)) {
            Err(error) if is_for_both && is_unsupported(&error) => Self::bind(
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())),
                all,
            ),
            bound => bound.map(|()| Self { socket }),
        }
    }

    /// With the buffers that the configuration asks for.
    pub(super) fn with_buffers(self, config: &Config) -> io::Result<Self> {
        socket::set_buffers(&self.socket, config)?;
        Ok(self)
    }

    /// Begins to listen.
    pub(super) fn listen(self) -> io::Result<TcpListener> {
        self.socket.listen(BACKLOG)?;
        TcpListener::from_std(self.socket.into())
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let codes = [
        libc::EAFNOSUPPORT,
        libc::EADDRNOTAVAIL,
        libc::EPROTONOSUPPORT,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    fn bind(address: &str, all: &[SocketAddr]) -> Bound {
        Bound::bind(address.parse().unwrap(), all).unwrap()
    }

    #[tokio::test]
    async fn nobody_gets_in_before_the_broker_listens() {
        let bound = bind("127.0.0.1:0", &[]);
        let address = bound.socket.local_addr().unwrap().as_socket().unwrap();
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listener = bound.listen().unwrap();
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        assert_eq!(
            connected.unwrap().local_addr().unwrap(),
            accepted.unwrap().1
        );
    }

    #[tokio::test]
    async fn a_taken_port_is_known_at_once() {
        let listener = bind("127.0.0.1:0", &[]).listen().unwrap();
        let error = Bound::bind(listener.local_addr().unwrap(), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn the_unspecified_address_serves_both_families() {
        let listener = bind("[::]:0", &[]).listen().unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let (connected, accepted) = tokio::join!(connect, listener.accept());
        connected.unwrap();
        assert!(accepted.unwrap().1.ip().to_canonical().is_loopback());
    }

    #[tokio::test]
    async fn both_unspecified_addresses_can_be_configured() {
        let first = bind("0.0.0.0:0", &[]);
        let ipv4 = first.socket.local_addr().unwrap().as_socket().unwrap();
        let all = [ipv4, format!("[::]:{}", ipv4.port()).parse().unwrap()];
        let second = Bound::bind(all[1], &all);
        // On a host without IPv6 the second is the first.
        if let Ok(second) = second {
            first.listen().unwrap();
            second.listen().unwrap();
        }
    }
}
