//! A network that behaves like TCP: in order, held while a way is cut, silent when a host is gone, a reset when only a process is.
//! Messages travel as lists: that bytes give back the list that they were made of is tested with the codec, and asserted here in debug builds.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use hastmon_core::config::{Address, Host as Name};
use hastmon_core::wire::frame::{self, HEADER_SIZE, NETWORK_LIMIT, Version};
use hastmon_core::wire::nv::List;

use super::agenda::Time;
use super::host::HostId;
use super::kernel::{Happening, Kernel, Pid, What};

/// One end of a connection; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EndId(pub(crate) u64);

#[derive(Debug)]
pub(crate) enum Packet {
    Syn,
    SynAck,
    Ack,
    Data(Version, List),
    Fin,
    Reset,
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) host: HostId,
    /// Who reads from it; nobody until it is accepted.
    owner: Option<Pid>,
    peer: EndId,
    peer_host: HostId,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    inbox: VecDeque<(Version, List)>,
    /// Why nothing more will come.
    closed: Option<&'static str>,
    /// Nothing that is sent to this end from now on arrives earlier.
    arrives: Time,
    /// On its way to this end, on a way that is cut.
    held: Vec<Packet>,
    /// Something was sent from here to a host without power.
    unheard: bool,
}

/// What was held while a way was cut is sent again within this time after it is whole.
const RESENT_WITHIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));
const FIRST_EPHEMERAL_PORT: u64 = 20_000;

impl Kernel {
    /// Begins to connect. What comes of it happens to `owner`.
    pub(crate) fn connect(&mut self, owner: Pid, host: HostId, to: &Address) -> EndId {
        let Name::Ip(ip) = to.host else { panic!("{to}: the simulated network has no names") };
        let (near, far) = (EndId(self.new_id()), EndId(self.new_id()));
        let port = u16::try_from(FIRST_EPHEMERAL_PORT + near.0 % 40_000).unwrap();
        let local = SocketAddr::new(host.address(), port);
        let remote = SocketAddr::new(ip, to.port);
        let peer_host = HostId::of_address(ip);
        let end = End {
            host,
            owner: Some(owner),
            peer: far,
            peer_host,
            local,
            remote,
            inbox: VecDeque::new(),
            closed: None,
            arrives: self.now,
            held: Vec::new(),
            unheard: false,
        };
        let other = End {
            host: peer_host,
            owner: None,
            peer: near,
            peer_host: host,
            local: remote,
            remote: local,
            inbox: VecDeque::new(),
            closed: None,
            arrives: self.now,
            held: Vec::new(),
            unheard: false,
        };
        self.ends.extend([(near, end), (far, other)]);
        self.transmit(near, far, peer_host, Packet::Syn);
        near
    }

    pub(crate) fn end(&self, end: EndId) -> Option<&End> {
        self.ends.get(&end)
    }

    /// Sends a message, unless the end is gone.
    pub(crate) fn send(&mut self, end: EndId, message: List) {
        self.send_as(Version::V0, end, message);
    }

    /// Sends a message of protocol 1.
    pub(crate) fn send_v1(&mut self, end: EndId, message: List) {
        self.send_as(Version::V1, end, message);
    }

    fn send_as(&mut self, version: Version, end: EndId, message: List) {
        debug_assert!(survives_the_wire(version, &message), "{message:?}");
        if let Some(End { peer, peer_host, .. }) = self.ends.get(&end) {
            let (peer, peer_host) = (*peer, *peer_host);
            self.transmit(end, peer, peer_host, Packet::Data(version, message));
        }
    }

    pub(crate) fn close(&mut self, end: EndId) {
        if let Some(End { peer, peer_host, .. }) = self.ends.remove(&end) {
            self.transmit(end, peer, peer_host, Packet::Fin);
        }
    }

    pub(crate) fn set_owner(&mut self, end: EndId, owner: Pid) {
        if let Some(end) = self.ends.get_mut(&end) {
            end.owner = Some(owner);
        }
    }

    /// A process is gone, and its descriptors with it.
    pub(crate) fn close_all_of(&mut self, pid: Pid) {
        let own: Vec<_> = self.ends.iter().filter(|(_, end)| end.owner == Some(pid)).map(|(id, _)| *id).collect();
        own.into_iter().for_each(|end| self.close(end));
    }

    #[cfg(test)]
    pub(crate) fn open_ends(&self) -> usize {
        self.ends.len()
    }

    /// The next message that has arrived.
    pub(crate) fn take_message(&mut self, end: EndId) -> Option<(Version, List)> {
        self.ends.get_mut(&end)?.inbox.pop_front()
    }

    /// Why nothing more will come, when all that has come is read.
    pub(crate) fn is_closed(&self, end: EndId) -> Option<&'static str> {
        self.ends.get(&end).map_or(Some("closed here"), |end| end.closed)
    }

    fn transmit(&mut self, from: EndId, to: EndId, host: HostId, packet: Packet) {
        let mut at = self.now + self.rng.between(self.delay);
        if let Some(end) = self.ends.get_mut(&to) {
            if let Some(extra) = self.slow.get(&(end.peer_host, host)) {
                at += self.rng.between((Duration::ZERO, *extra));
            }
            end.arrives = end.arrives.max(at);
            at = end.arrives;
        }
        self.agenda.add(at, What::Packet { from, to, host, packet });
    }

    pub(crate) fn packet_arrives(&mut self, from: EndId, to: EndId, host: HostId, packet: Packet) {
        let power = self.host(host).up;
        let Some(end) = self.ends.get_mut(&to) else {
            self.arrives_nowhere(from, host, &packet);
            return;
        };
        let is_cut = self.cuts.contains(&(end.peer_host, host));
        if is_cut || !end.held.is_empty() || !power {
            end.held.push(packet);
            return;
        }
        let (owner, peer_host) = (end.owner, end.peer_host);
        let news = match packet {
            Packet::Syn => {
                let listens = self.host(host).daemon.is_some();
                if !listens {
                    self.ends.remove(&to);
                }
                let answer = if listens { Packet::SynAck } else { Packet::Reset };
                self.transmit(to, from, peer_host, answer);
                return;
            }
            Packet::SynAck => {
                self.transmit(to, from, peer_host, Packet::Ack);
                Happening::Established(to)
            }
            Packet::Ack => {
                let Some(daemon) = self.host(host).daemon else {
                    self.ends.remove(&to);
                    self.transmit(to, from, peer_host, Packet::Reset);
                    return;
                };
                self.set_owner(to, daemon);
                self.soon(daemon, Happening::Accepted(to));
                return;
            }
            Packet::Data(version, message) => {
                end.inbox.push_back((version, message));
                Happening::Readable(to)
            }
            Packet::Fin => {
                end.closed = Some("the other side closed the connection");
                Happening::Closed(to)
            }
            Packet::Reset => {
                end.closed = Some("connection reset or refused");
                Happening::Closed(to)
            }
        };
        if let Some(owner) = owner {
            self.soon(owner, news);
        }
    }

    /// At a host that knows nothing of the connection (any more): it says so, if it has power.
    fn arrives_nowhere(&mut self, from: EndId, host: HostId, packet: &Packet) {
        let power = self.host(host).up;
        let Some(sender) = self.ends.get_mut(&from) else { return };
        if !power {
            sender.unheard = true;
        } else if !matches!(packet, Packet::Reset | Packet::Fin) {
            let back = sender.host;
            self.transmit(EndId(0), from, back, Packet::Reset);
        }
    }

    pub(crate) fn cut(&mut self, from: HostId, to: HostId) {
        self.cuts.insert((from, to));
    }

    /// What is sent from now on takes up to `extra` longer.
    pub(crate) fn slow_down(&mut self, from: HostId, to: HostId, extra: Duration) {
        self.slow.insert((from, to), extra);
    }

    /// What was held arrives, in order.
    pub(crate) fn heal(&mut self, from: HostId, to: HostId) {
        self.cuts.remove(&(from, to));
        self.release(|end| end.peer_host == from && end.host == to);
    }

    /// The host has lost power: what it knew of its connections is gone, and nobody is told.
    pub(crate) fn lose_power(&mut self, host: HostId) {
        self.ends.retain(|_, end| end.host != host);
    }

    /// The host has power again, and answers to what it knows nothing of.
    pub(crate) fn gain_power(&mut self, host: HostId) {
        let unheard: Vec<_> =
            self.ends.iter().filter(|(_, end)| end.unheard && end.peer_host == host).map(|(id, _)| *id).collect();
        for end in unheard {
            let at = self.now + self.rng.between(RESENT_WITHIN);
            let to = self.ends[&end].host;
            self.agenda.add(at, What::Packet { from: EndId(0), to: end, host: to, packet: Packet::Reset });
        }
        self.release(|end| end.host == host);
    }

    fn release(&mut self, which: impl Fn(&End) -> bool) {
        let now = self.now;
        for (id, end) in &mut self.ends {
            if end.held.is_empty() || !which(end) {
                continue;
            }
            let again = now + self.rng.between(RESENT_WITHIN);
            end.arrives = end.arrives.max(again);
            for packet in end.held.drain(..) {
                let what = What::Packet { from: end.peer, to: *id, host: end.host, packet };
                self.agenda.add(end.arrives, what);
            }
        }
    }
}

fn survives_the_wire(version: Version, message: &List) -> bool {
    let bytes = frame::encode(version, message, NETWORK_LIMIT).expect("our messages are small");
    List::decode(&bytes[HEADER_SIZE..]).as_ref() == Ok(message)
}
