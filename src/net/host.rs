//! Who the peer is, and holding the UDP port of this side.
#![forbid(unsafe_code)]

use super::{NetError, privilege};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// The first IPv4 address of `host`, a name or an address. Asks the system's resolver, which may take seconds.
///
/// # Errors
/// [`NetError::UnknownHost`], or [`NetError::Ipv6Only`] where there are addresses, but none of IPv4.
pub fn resolve_host(host: &str) -> Result<Ipv4Addr, NetError> {
    let unknown = |answer| NetError::UnknownHost { host: host.to_owned(), answer };
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(address);
    }
    let addresses = (host, 0).to_socket_addrs().map_err(unknown)?;
    first_ipv4(host, addresses.map(|address| address.ip()))
}

fn first_ipv4(host: &str, addresses: impl Iterator<Item = IpAddr>) -> Result<Ipv4Addr, NetError> {
    let mut other = None;
    for address in addresses {
        match address {
            IpAddr::V4(address) => return Ok(address),
            IpAddr::V6(address) => other = other.or(Some(address)),
        }
    }
    Err(match other {
        Some(address) => NetError::Ipv6Only { host: host.to_owned(), address },
        None => NetError::UnknownHost {
            host: host.to_owned(),
            answer: io::Error::new(io::ErrorKind::NotFound, "the resolver knows no address"),
        },
    })
}

/// How often, and how long in between, a port that is taken is tried again.
const RELEASE_TRIES: u32 = 25;
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// Opens a UDP socket bound to `interface` and to `address` and `port`, 0 being any free one: nobody else can have the
/// port while it is open. It does not block.
///
/// # Errors
/// [`NetError::PortTaken`], [`NetError::PortDenied`], or [`NetError::Socket`] with what the kernel answered.
pub fn reserve_port(interface: &str, address: Ipv4Addr, port: u16) -> Result<UdpSocket, NetError> {
    let failed = |attempt: String| move |answer| NetError::Socket { attempt, answer };
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        Ok(socket)
    };
    let socket = open().map_err(failed("open a UDP socket".to_owned()))?;
    socket
        .bind_device(Some(interface.as_bytes()))
        .map_err(failed(format!("bind a UDP socket to the interface {interface}")))?;
    let local = SocketAddr::V4(SocketAddrV4::new(address, port)).into();
    let mut bound = socket.bind(&local);
    // A program that was killed a moment ago may not have let go of it yet.
    for _ in 0..RELEASE_TRIES {
        if !matches!(&bound, Err(answer) if answer.kind() == io::ErrorKind::AddrInUse) {
            break;
        }
        std::thread::sleep(RELEASE_PAUSE);
        bound = socket.bind(&local);
    }
    bound.map_err(|answer| match answer.kind() {
        io::ErrorKind::AddrInUse if port != 0 => NetError::PortTaken { address, port },
        io::ErrorKind::PermissionDenied if port != 0 => {
            NetError::PortDenied { port, first_free: privilege::first_unprivileged_port() }
        }
        _ => failed(format!("bind a UDP socket to {address}, port {port}, on {interface}"))(answer),
    })?;
    Ok(socket.into())
}

/// The address and port that a UDP socket is bound to: with the port that the kernel chose, where it was to choose.
///
/// # Errors
/// [`NetError::Socket`] with what the kernel answered.
pub fn local_address(socket: &UdpSocket) -> Result<SocketAddrV4, NetError> {
    let answer = match socket.local_addr() {
        Ok(SocketAddr::V4(local)) => return Ok(local),
        Ok(SocketAddr::V6(local)) => io::Error::new(io::ErrorKind::InvalidData, format!("{local} is not IPv4")),
        Err(answer) => answer,
    };
    Err(NetError::Socket { attempt: "read the UDP socket's own address".to_owned(), answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_itself() {
        assert_eq!(resolve_host("192.0.2.7").unwrap(), Ipv4Addr::new(192, 0, 2, 7));
    }

    #[test]
    fn an_ipv6_address_is_named_as_such() {
        let error = resolve_host("2001:db8::1").unwrap_err().to_string();
        assert!(error.starts_with("\"2001:db8::1\" has only IPv6 addresses (2001:db8::1)"), "{error}");
    }

    #[test]
    fn the_first_ipv4_address_of_many_is_taken() {
        let addresses = ["2001:db8::1", "192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        assert_eq!(first_ipv4("both", addresses.into_iter()).unwrap(), Ipv4Addr::new(192, 0, 2, 1));
        assert!(matches!(first_ipv4("none", std::iter::empty()), Err(NetError::UnknownHost { .. })));
    }

    #[test]
    fn an_impossible_name_is_unknown() {
        assert!(matches!(resolve_host("no such host"), Err(NetError::UnknownHost { .. })));
    }
}
