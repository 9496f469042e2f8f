//! Addresses of nodes: `[tcp4://|tcp6://|tcp://]host[:port]`. Decides what is an address and what is not.
//! Never resolves a name.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The TCP port of an address that names none.
pub const DEFAULT_PORT: u16 = 8458;

/// The TCP port of `metrics` when it names none.
pub const METRICS_PORT: u16 = 9458;

/// The longest host name that DNS can carry, in bytes.
const MAX_HOST_LEN: usize = 253;
/// The longest part between two dots of a host name that DNS can carry, in bytes.
const MAX_LABEL_LEN: usize = 63;

/// Where a daemon listens, or where another one is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// As written in the configuration: `status` shows it so.
    pub text: String,
    /// The host.
    pub host: Host,
    /// The TCP port, never 0.
    pub port: u16,
    /// The version of the Internet protocol that was asked for.
    pub family: Family,
}

/// The host of an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Host {
    /// A literal address; its version agrees with the family of the [`Address`].
    Ip(IpAddr),
    /// A name that the system has to look up.
    Name(String),
}

/// Which version of the Internet protocol an address may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Family {
    /// `tcp4://`: version 4.
    Tcp4,
    /// `tcp6://`: version 6.
    Tcp6,
    /// `tcp://` or nothing: either; a literal address decides.
    Any,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It begins with something else than a known scheme.
    #[error("unknown scheme `{0}`")]
    Scheme(String),
    /// There is no host in it.
    #[error("it has no host")]
    NoHost,
    /// The host is neither a literal address nor a name.
    #[error("its host is neither a name nor a literal address")]
    Host,
    /// The host ends in a number, as only version 4 addresses do, but is none.
    #[error("its host is not an IPv4 address")]
    Ipv4,
    /// A name where only a literal address will do.
    #[error("its host is a name")]
    Name,
    /// What stands between the brackets is not an IPv6 address.
    #[error("what stands in brackets is not an IPv6 address")]
    Ipv6,
    /// A bracket is missing, or something else than a port follows it.
    #[error("its brackets do not enclose a host")]
    Brackets,
    /// Several colons outside of brackets.
    #[error("an IPv6 address must stand in brackets")]
    BareIpv6,
    /// The port is no number from 1 to 65535.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// The scheme asks for one version and the literal address is of the other.
    #[error("its scheme and its host are of different versions of IP")]
    Family,
}

impl AddressError {
    /// What to do about it.
    pub(super) const fn hint(&self) -> &'static str {
        match self {
            Self::Ipv6 | Self::Brackets | Self::BareIpv6 => "for example [2001:db8::1]:8458 or tcp6://[2001:db8::1]",
            Self::Family => "tcp4:// is for 192.0.2.1, tcp6:// for [2001:db8::1], tcp:// for both",
            _ => "tcp4://HOST:PORT, tcp6://HOST:PORT, tcp://HOST:PORT or HOST:PORT; without :PORT it is port 8458",
        }
    }
}

impl Address {
    /// Where a daemon listens when the configuration does not say: every IPv4 address of the host.
    pub fn default_listen() -> Self {
        Self {
            text: "tcp4://0.0.0.0:8458".to_owned(),
            host: Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port: DEFAULT_PORT,
            family: Family::Tcp4,
        }
    }

    /// Where metrics are to be had: as any address, or a port alone (`9458`, `:9458`) of this host, to which nobody else has access.
    pub(super) fn of_metrics(text: &str) -> Result<Self, AddressError> {
        let port = text.strip_prefix(':').unwrap_or(text);
        if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
            let host = Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
            return Ok(Self { text: text.to_owned(), host, port: parse_port(port)?, family: Family::Tcp4 });
        }
        let address = Self::with_port(text, METRICS_PORT)?;
        match &address.host {
            Host::Ip(_) => Ok(address),
            // Nothing is looked up for it.
            Host::Name(name) if name == "localhost" => {
                Ok(Self { host: Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..address })
            }
            Host::Name(_) => Err(AddressError::Name),
        }
    }

    /// Whether both lead to the same place, however they are written.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        let same_host = match (&self.host, &other.host) {
            (Host::Ip(a), Host::Ip(b)) => a == b,
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            _ => false,
        };
        same_host && self.port == other.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::with_port(text, DEFAULT_PORT)
    }
}

impl Address {
    /// Reads it; `default`: the port when there is none in it.
    fn with_port(text: &str, default: u16) -> Result<Self, AddressError> {
        let (family, rest) = match text.split_once("://") {
            None => (Family::Any, text),
            Some(("tcp", rest)) => (Family::Any, rest),
            Some(("tcp4", rest)) => (Family::Tcp4, rest),
            Some(("tcp6", rest)) => (Family::Tcp6, rest),
            Some((scheme, _)) => return Err(AddressError::Scheme(scheme.to_owned())),
        };
        let (host, port) = split_port(rest)?;
        let port = port.map_or(Ok(default), parse_port)?;
        match (&host, family) {
            (Host::Ip(IpAddr::V6(_)), Family::Tcp4) | (Host::Ip(IpAddr::V4(_)), Family::Tcp6) => {
                Err(AddressError::Family)
            }
            _ => Ok(Self { text: text.to_owned(), host, port, family }),
        }
    }
}

/// The host, and the text of the port if there is one.
fn split_port(text: &str) -> Result<(Host, Option<&str>), AddressError> {
    if let Some(inner) = text.strip_prefix('[') {
        let (literal, after) = inner.split_once(']').ok_or(AddressError::Brackets)?;
        let port = after.strip_prefix(':');
        if port.is_none() && !after.is_empty() {
            return Err(AddressError::Brackets);
        }
        let ip: Ipv6Addr = literal.parse().map_err(|_| AddressError::Ipv6)?;
        return Ok((Host::Ip(IpAddr::V6(ip)), port));
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(AddressError::BareIpv6),
        Some((host, port)) => Ok((parse_host(host)?, Some(port))),
        None => Ok((parse_host(text)?, None)),
    }
}

fn parse_host(text: &str) -> Result<Host, AddressError> {
    if text.is_empty() {
        return Err(AddressError::NoHost);
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=MAX_LABEL_LEN).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
    };
    if name.len() > MAX_HOST_LEN || !name.split('.').all(is_label) {
        return Err(AddressError::Host);
    }
    // The resolver would read such a name as an address in one of its old notations.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(AddressError::Ipv4);
    }
    Ok(Host::Name(text.to_owned()))
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    // Digits only: the standard library would take "+80" as well.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0).ok_or(AddressError::Port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_form_of_an_address_is_understood_and_shown_as_written() {
        let v4 = Host::Ip("192.0.2.1".parse().unwrap());
        let v6 = Host::Ip("2001:db8::1".parse().unwrap());
        let name = Host::Name("a.example.org".into());
        for (text, host, port, family) in [
            ("192.0.2.1", &v4, 8458, Family::Any),
            ("192.0.2.1:1", &v4, 1, Family::Any),
            ("tcp://192.0.2.1", &v4, 8458, Family::Any),
            ("tcp4://192.0.2.1:65535", &v4, 65535, Family::Tcp4),
            ("[2001:db8::1]", &v6, 8458, Family::Any),
            ("[2001:db8::1]:80", &v6, 80, Family::Any),
            ("tcp://[2001:db8::1]:80", &v6, 80, Family::Any),
            ("tcp6://[2001:db8::1]", &v6, 8458, Family::Tcp6),
            ("a.example.org", &name, 8458, Family::Any),
            ("tcp6://a.example.org:9", &name, 9, Family::Tcp6),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((&address.host, address.port, address.family), (host, port, family), "{text}");
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        use AddressError as E;
        let long_label = "a".repeat(MAX_LABEL_LEN + 1);
        let long_name = ["a"; 128].join(".");
        for (text, error) in [
            ("udp://a", E::Scheme("udp".into())),
            ("TCP4://a", E::Scheme("TCP4".into())),
            ("", E::NoHost),
            ("tcp4://", E::NoHost),
            (":80", E::NoHost),
            ("a b", E::Host),
            ("a..b", E::Host),
            ("-a", E::Host),
            ("a/b", E::Host),
            (".", E::Host),
            (&long_label, E::Host),
            (&long_name, E::Host),
            ("192.0.2.256", E::Ipv4),
            ("192.0.2", E::Ipv4),
            ("5", E::Ipv4),
            ("[fe80::1%em0]", E::Ipv6),
            ("[192.0.2.1]", E::Ipv6),
            ("[]", E::Ipv6),
            ("[::1", E::Brackets),
            ("[::1]8458", E::Brackets),
            ("::1", E::BareIpv6),
            ("tcp6://2001:db8::1", E::BareIpv6),
            ("a:", E::Port),
            ("a:0", E::Port),
            ("a:65536", E::Port),
            ("a:+80", E::Port),
            ("[::1]:http", E::Port),
            ("tcp4://[::1]", E::Family),
            ("tcp6://192.0.2.1", E::Family),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }

    #[test]
    fn the_default_is_what_its_text_says() {
        let listen = Address::default_listen();
        assert_eq!(listen.text.parse(), Ok(listen));
    }
}
