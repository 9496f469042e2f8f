//! The sockets that the daemon is called on, opened at its start and beside those in use when they move. Opens; decides nothing.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;

use hastmon_core::config::{Address, Config, Host};
use rustix::net::sockopt::set_socket_reuseport;
use tokio::net::{TcpListener, TcpSocket};

use super::control_socket::{ControlError, ControlSocket};
use crate::net::is_of;
use crate::os::sysexits;

/// Connections that the kernel keeps until they are accepted: as many as it does for anybody by default.
pub(super) const BACKLOG: u32 = 1024;

/// Where the daemon can be reached.
#[derive(Clone, Debug)]
pub(super) struct Sockets {
    pub(super) network: Rc<TcpListener>,
    pub(super) control: Rc<ControlSocket>,
    /// Where metrics are to be had.
    pub(super) metrics: Option<Rc<TcpListener>>,
}

/// Why one of them cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(
        "Cannot listen on {address}: {source}. Is the address one of this host, and free? See `listen` in hastmon.conf(5)."
    )]
    Listen { address: String, source: io::Error },
}

impl SocketError {
    /// What the daemon exits with.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::Control(error) => error.exit_code(),
            Self::Listen { .. } => sysexits::UNAVAILABLE,
        }
    }
}

/// The addresses that a configuration asks to listen on: the first that can be had is meant. Looks its name up, and waits for that.
///
/// # Errors
/// The name has no address of the family that is asked for.
pub(super) fn listen_addresses(listen: &Address) -> Result<Vec<SocketAddr>, SocketError> {
    let found = match &listen.host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, listen.port)]),
        Host::Name(name) => (name.as_str(), listen.port).to_socket_addrs().map(Iterator::collect),
    };
    let none = || Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address of its family"));
    let found = found.and_then(|mut found: Vec<SocketAddr>| {
        found.retain(|address| is_of(listen.family, &address.ip()));
        if found.is_empty() { none() } else { Ok(found) }
    });
    found.map_err(|source| SocketError::Listen { address: listen.to_string(), source })
}

impl Sockets {
    /// The sockets that a configuration asks for: those in use where nothing changes, new ones beside them where something does.
    ///
    /// # Errors
    /// One of them cannot be had; those in use are as they were.
    pub(super) fn open(config: &Config, listen: &[SocketAddr], in_use: Option<&Self>) -> Result<Self, SocketError> {
        let control = match in_use {
            Some(in_use) if in_use.control.is_at(&config.control) => Rc::clone(&in_use.control),
            _ => Rc::new(ControlSocket::bind(&config.control)?),
        };
        let network = bind_first(listen, in_use.map(|in_use| &in_use.network));
        let network = network.map_err(|source| SocketError::Listen { address: config.listen.to_string(), source })?;
        let metrics = config.metrics.as_ref().and_then(|address| open_metrics(address, in_use));
        Ok(Self { network, control, metrics })
    }

    /// The address that outgoing connections leave from, when the daemon listens on a specific one.
    pub(super) fn source(&self) -> Option<IpAddr> {
        let ip = self.network.local_addr().ok()?.ip();
        (!ip.is_unspecified()).then_some(ip)
    }
}

/// Without the metrics everything else goes on: a port that another program has must not keep a resource from running.
fn open_metrics(address: &Address, in_use: Option<&Sockets>) -> Option<Rc<TcpListener>> {
    // The configuration takes no name here.
    let Host::Ip(ip) = address.host else { return None };
    let wanted = [SocketAddr::new(ip, address.port)];
    bind_first(&wanted, in_use.and_then(|in_use| in_use.metrics.as_ref()))
        .inspect_err(|error| {
            log::error!("no metrics: cannot listen on {address}: {error}; when that is mended: hastmonctl reload")
        })
        .ok()
}

fn bind_first(addresses: &[SocketAddr], in_use: Option<&Rc<TcpListener>>) -> io::Result<Rc<TcpListener>> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for wanted in addresses {
        if let Some(in_use) = in_use.filter(|in_use| in_use.local_addr().is_ok_and(|address| address == *wanted)) {
            return Ok(Rc::clone(in_use));
        }
        match bind(*wanted, in_use) {
            Ok(listener) => return Ok(Rc::new(listener)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The port may be that of the socket in use, with one of the two on all addresses. The kernel allows that while both agree to share it;
/// afterwards nobody else shall be able to join them.
fn bind(address: SocketAddr, in_use: Option<&Rc<TcpListener>>) -> io::Result<TcpListener> {
    let share = |yes: bool| in_use.map_or(Ok(()), |in_use| set_socket_reuseport(in_use, yes));
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(in_use.is_some())?;
    share(true)?;
    let listener = socket.bind(address).and_then(|()| socket.listen(BACKLOG));
    share(false)?;
    let listener = listener?;
    set_socket_reuseport(&listener, false)?;
    Ok(listener)
}
