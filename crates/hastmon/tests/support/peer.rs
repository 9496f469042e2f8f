//! Protocol 0, written a second time from its description: a test's own original to speak with the daemon.
//! Never uses the daemon's codec, so that an error there does not cancel itself out here.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::time::{PATIENCE, now_ns};

/// The port of protocol 0.
pub(crate) const PORT: u16 = 8458;

/// No message of a test is longer; a longer one is a broken size.
const MAX_SIZE: usize = 1 << 20;

pub(crate) const INIT: u8 = 1;
pub(crate) const PRIMARY: u8 = 2;
pub(crate) const SECONDARY: u8 = 3;

pub(crate) const RUN: u8 = 3;
pub(crate) const STOPPED: u8 = 5;

/// A value of a message, of the types that originals send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    U8(u8),
    I16(i16),
    I32(i32),
    U64(u64),
    Bytes(Vec<u8>),
    Text(String),
}

/// The pairs of a message, in its order.
pub(crate) type Fields = Vec<(String, Value)>;

impl Value {
    fn to_wire(&self) -> (u8, Vec<u8>) {
        match self {
            Value::U8(number) => (2, vec![*number]),
            Value::I16(number) => (3, number.to_le_bytes().to_vec()),
            Value::I32(number) => (5, number.to_le_bytes().to_vec()),
            Value::U64(number) => (8, number.to_le_bytes().to_vec()),
            Value::Bytes(bytes) => (10, bytes.clone()),
            Value::Text(text) => (17, [text.as_bytes(), b"\0"].concat()),
        }
    }

    fn from_wire(number: u8, bytes: &[u8]) -> Value {
        match number {
            2 => Value::U8(bytes[0]),
            3 => Value::I16(i16::from_le_bytes(bytes.try_into().unwrap())),
            5 => Value::I32(i32::from_le_bytes(bytes.try_into().unwrap())),
            8 => Value::U64(u64::from_le_bytes(bytes.try_into().unwrap())),
            10 => Value::Bytes(bytes.to_vec()),
            17 => {
                let (nul, text) = bytes.split_last().expect("a string has its NUL");
                assert_eq!(*nul, 0, "a string ends with NUL: {bytes:?}");
                Value::Text(String::from_utf8(text.to_vec()).unwrap())
            }
            other => panic!("no original sends type {other}"),
        }
    }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// Builds pairs: `fields([("cmd", Value::U8(1))])`.
pub(crate) fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Fields {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The value of the first pair of that name.
pub(crate) fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    fields.iter().find(|(have, _)| have == name).map(|(_, value)| value)
}

fn pad(bytes: &mut Vec<u8>, unit: &[u8]) {
    bytes.extend_from_slice(unit);
    bytes.resize(bytes.len() + unit.len().next_multiple_of(8) - unit.len(), 0);
}

/// A whole message; padding is zero.
pub(crate) fn encode(fields: &Fields) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let (number, bytes) = value.to_wire();
        let name = [name.as_bytes(), b"\0"].concat();
        body.push(number);
        body.push(u8::try_from(name.len()).unwrap());
        body.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        pad(&mut body, &name);
        pad(&mut body, &bytes);
    }
    [&[0], u32::try_from(body.len()).unwrap().to_le_bytes().as_slice(), &body].concat()
}

/// The pairs of a whole message. Panics on anything that is not well formed: what the daemon sends must be.
pub(crate) fn decode(message: &[u8]) -> Fields {
    let (head, mut body) = message.split_at(5);
    assert_eq!(head[0], 0, "version of the protocol");
    assert_eq!(u32::from_le_bytes(head[1..5].try_into().unwrap()) as usize, body.len(), "size of the message");
    let mut all = Fields::new();
    while body.first().is_some_and(|byte| *byte != 0) {
        let (number, name_size) = (body[0], usize::from(body[1]));
        let size = u32::from_le_bytes(body[2..6].try_into().unwrap()) as usize;
        let (name, rest) = body[6..].split_at(name_size.next_multiple_of(8));
        let (value, rest) = rest.split_at(size.next_multiple_of(8));
        assert_eq!(name[name_size - 1], 0, "a name ends with NUL");
        let name = String::from_utf8(name[..name_size - 1].to_vec()).unwrap();
        all.push((name, Value::from_wire(number, &value[..size])));
        body = rest;
    }
    assert!(body.iter().all(|byte| *byte == 0), "rest of the message");
    all
}

/// Seconds since 1970.
pub(crate) fn time_of_day() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A configured `key`.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) algorithm: String,
    pub(crate) secret: String,
}

impl Key {
    pub(crate) fn new(algorithm: &str, secret: &str) -> Self {
        Self { algorithm: algorithm.to_owned(), secret: secret.to_owned() }
    }

    /// `auth_hash` for a connection between these two, at `now` seconds since 1970.
    pub(crate) fn hash(&self, now: u64, client: &SocketAddr, server: &SocketAddr) -> Vec<u8> {
        use sha1::digest::Digest;
        let text = format!("{now}tcp4://{client}tcp4://{server}{}", self.secret);
        match self.algorithm.as_str() {
            "MD5" => md5::Md5::digest(text).to_vec(),
            "SHA1" => sha1::Sha1::digest(text).to_vec(),
            "SHA256" => sha2::Sha256::digest(text).to_vec(),
            "RIPEMD160" => ripemd::Ripemd160::digest(text).to_vec(),
            other => panic!("no algorithm {other}"),
        }
    }

    /// The two pairs of a signature, made now.
    pub(crate) fn sign(&self, client: &SocketAddr, server: &SocketAddr) -> Fields {
        self.sign_at(time_of_day(), client, server)
    }

    /// The two pairs of a signature made at `now`, in seconds since 1970.
    pub(crate) fn sign_at(&self, now: u64, client: &SocketAddr, server: &SocketAddr) -> Fields {
        fields([("now", Value::U64(now)), ("auth_hash", Value::Bytes(self.hash(now, client, server)))])
    }

    /// True when the message carries this key's signature for this connection.
    pub(crate) fn verifies(&self, message: &Fields, client: &SocketAddr, server: &SocketAddr) -> bool {
        match (get(message, "now"), get(message, "auth_hash")) {
            (Some(Value::U64(now)), Some(Value::Bytes(hash))) => *hash == self.hash(*now, client, server),
            _ => false,
        }
    }
}

/// A connection that carries whole messages.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Connects from one address of this host to another's port.
    pub(crate) fn connect(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<Wire> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrV4::new(from, 0))?;
        connect(&socket, &to)?;
        Ok(Wire::over(TcpStream::from(socket)))
    }

    fn over(stream: TcpStream) -> Wire {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire { stream }
    }

    fn client(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    fn server(&self) -> SocketAddr {
        self.stream.peer_addr().unwrap()
    }

    /// The signature of the side that has connected; nothing without a key.
    fn signature(&self, key: Option<&Key>) -> Fields {
        key.map(|key| key.sign(&self.client(), &self.server())).unwrap_or_default()
    }

    /// Sends bytes; that the other side has hung up shows when its answer is read.
    pub(crate) fn send(&mut self, message: &[u8]) {
        let _ = self.stream.write_all(message);
    }

    /// The next whole message, header included; `None` when the other side has closed.
    pub(crate) fn receive(&mut self) -> Option<Vec<u8>> {
        let mut message = vec![0; 5];
        self.fill(&mut message)?;
        let size = u32::from_le_bytes(message[1..5].try_into().unwrap()) as usize;
        assert!(size <= MAX_SIZE, "a message of {size} bytes");
        message.resize(5 + size, 0);
        self.fill(&mut message[5..])?;
        Some(message)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("neither answer nor end of the connection after {PATIENCE:?}")
            }
            Err(_) => None,
        }
    }
}

/// Sends one message on a connection of its own; all that is answered until the other side closes.
pub(crate) fn ask(from: Ipv4Addr, to: SocketAddrV4, message: &[u8]) -> Vec<Vec<u8>> {
    let mut wire = Wire::connect(from, to).expect("the daemon listens");
    wire.send(message);
    std::iter::from_fn(|| wire.receive()).collect()
}

/// Sends pairs with a signature before them, on a connection of their own: all answers until the other side closes.
pub(crate) fn ask_signed(
    from: Ipv4Addr,
    to: SocketAddrV4,
    request: Fields,
    signature: impl Fn(&SocketAddr, &SocketAddr) -> Fields,
) -> Vec<Vec<u8>> {
    let mut wire = Wire::connect(from, to).expect("the daemon listens");
    let message = encode(&[signature(&wire.client(), &wire.server()), request].concat());
    wire.send(&message);
    std::iter::from_fn(|| wire.receive()).collect()
}

fn ask_with_key(from: Ipv4Addr, to: SocketAddrV4, request: Fields, key: Option<&Key>) -> Vec<Vec<u8>> {
    ask_signed(from, to, request, |client, server| key.map(|key| key.sign(client, server)).unwrap_or_default())
}

/// The pairs of a watchdog's poll.
pub(crate) fn poll_of(resource: &str) -> Fields {
    fields([("type", Value::U8(1)), ("cmd", Value::U8(2)), ("resource0", text(resource))])
}

/// A watchdog's poll: the answer, or nothing when it was refused without a word.
pub(crate) fn poll(from: Ipv4Addr, to: SocketAddrV4, resource: &str, key: Option<&Key>) -> Option<Vec<u8>> {
    ask_with_key(from, to, poll_of(resource), key).into_iter().next()
}

/// A watchdog's complaint. Nobody answers it.
pub(crate) fn complain(from: Ipv4Addr, to: SocketAddrV4, resource: &str, key: Option<&Key>) {
    let complaint = fields([("resource", text(resource)), ("type", Value::U8(2))]);
    assert_eq!(ask_with_key(from, to, complaint, key), Vec::<Vec<u8>>::new(), "a complaint has no answer");
}

/// A request to set the role of `res` over the network: the answer.
pub(crate) fn set_role(from: Ipv4Addr, to: SocketAddrV4, role: u8, key: Option<&Key>) -> Option<Vec<u8>> {
    let request =
        fields([("type", Value::U8(1)), ("cmd", Value::U8(1)), ("role", Value::U8(role)), ("resource0", text("res"))]);
    ask_with_key(from, to, request, key).into_iter().next()
}

/// A primary's two connections to a secondary.
#[derive(Debug)]
pub(crate) struct Session {
    first: Wire,
    second: Wire,
    seq: u64,
    /// What the secondary answered to step 1 and to step 2.
    pub(crate) answers: [Vec<u8>; 2],
}

impl Session {
    /// Goes through both steps as an original primary does. `Err` has the refusal's message, empty when there was none.
    pub(crate) fn open(
        from: Ipv4Addr,
        to: SocketAddrV4,
        resource: &str,
        priority: i32,
        key: Option<&Key>,
    ) -> Result<Session, Vec<u8>> {
        let mut first = Wire::connect(from, to).expect("the daemon listens");
        let greeting = fields([("resource", text(resource)), ("priority", Value::I32(priority))]);
        let message = encode(&[greeting, first.signature(key)].concat());
        first.send(&message);
        let token_message = first.receive().unwrap_or_default();
        if token_message.is_empty() {
            return Err(token_message);
        }
        let Some(token) = get(&decode(&token_message), "token").cloned() else { return Err(token_message) };
        let mut second = Wire::connect(from, to).expect("the daemon listens");
        let proof = fields([("resource", text(resource)), ("token", token), ("resuid", Value::U64(0))]);
        let message = encode(&[second.signature(key), proof].concat());
        second.send(&message);
        let resuid_message = first.receive().unwrap_or_default();
        if resuid_message.is_empty() {
            return Err(second.receive().unwrap_or_default());
        }
        Ok(Session { first, second, seq: 0, answers: [token_message, resuid_message] })
    }

    /// One heartbeat and its answer; nothing when the secondary has gone.
    pub(crate) fn heartbeat(&mut self, state: u8) -> Option<Vec<u8>> {
        self.seq += 1;
        self.first.send(&heartbeat(state, self.seq));
        self.second.receive()
    }

    /// The first bytes of a heartbeat, and no more.
    pub(crate) fn send_part(&mut self, state: u8, size: usize) {
        self.first.send(&heartbeat(state, self.seq + 1)[..size]);
    }

    /// True when the secondary has closed both connections (waits for it).
    pub(crate) fn ends(mut self) -> bool {
        self.first.receive().is_none() && self.second.receive().is_none()
    }
}

/// The message of a heartbeat.
pub(crate) fn heartbeat(state: u8, seq: u64) -> Vec<u8> {
    encode(&fields([("cmd", Value::U8(1)), ("state", Value::U8(state)), ("seq", Value::U64(seq))]))
}

/// The answer to a heartbeat.
pub(crate) fn heartbeat_answer(state: u8, seq: u64) -> Vec<u8> {
    encode(&fields([("seq", Value::U64(seq)), ("state", Value::U8(state))]))
}

/// A message that an `Original` has got.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at_ns: u64,
    /// Number of the connection, in the order in which they came.
    pub(crate) connection: usize,
    pub(crate) raw: Vec<u8>,
    pub(crate) fields: Fields,
    /// Whether it carries the signature of the key that both have.
    pub(crate) signed: bool,
}

impl Received {
    /// True for step 1 of a primary's handshake.
    pub(crate) fn is_greeting(&self) -> bool {
        get(&self.fields, "priority").is_some()
    }

    /// True for step 2 of a primary's handshake.
    pub(crate) fn is_proof(&self) -> bool {
        get(&self.fields, "token").is_some()
    }

    pub(crate) fn is_heartbeat(&self) -> bool {
        get(&self.fields, "seq").is_some()
    }

    pub(crate) fn is_poll(&self) -> bool {
        get(&self.fields, "type") == Some(&Value::U8(1))
    }

    pub(crate) fn is_complaint(&self) -> bool {
        is_complaint(&self.fields)
    }
}

/// True for a watchdog's complaint.
pub(crate) fn is_complaint(message: &Fields) -> bool {
    get(message, "type") == Some(&Value::U8(2))
}

/// An original that listens: what it answers is set by its role and its state, which a test may change at any time.
pub(crate) struct Original {
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddrV4,
    key: Option<Key>,
    role: AtomicU8,
    state: AtomicU8,
    priority: i32,
    closed: AtomicBool,
    connections: AtomicUsize,
    received: Mutex<Vec<Received>>,
    tokens: Mutex<BTreeMap<Vec<u8>, TcpStream>>,
}

impl Original {
    /// Listens on `address`, with the role and state that it shall report.
    pub(crate) fn listen(address: Ipv4Addr, role: u8, state: u8, priority: i32, key: Option<Key>) -> Original {
        let address = SocketAddrV4::new(address, PORT);
        let listener = TcpListener::bind(address).expect("the address of a stand-in is free");
        let shared = Arc::new(Shared {
            address,
            key,
            role: AtomicU8::new(role),
            state: AtomicU8::new(state),
            priority,
            closed: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            received: Mutex::default(),
            tokens: Mutex::default(),
        });
        let of_listener = Arc::clone(&shared);
        std::thread::spawn(move || of_listener.accept(&listener));
        Original { shared }
    }

    /// What this original is from now on.
    pub(crate) fn set(&self, role: u8, state: u8) {
        self.shared.role.store(role, Ordering::SeqCst);
        self.shared.state.store(state, Ordering::SeqCst);
    }

    /// All messages so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The messages so far that are `so`.
    pub(crate) fn those(&self, so: impl Fn(&Received) -> bool) -> Vec<Received> {
        self.received().into_iter().filter(|message| so(message)).collect()
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Wakes the listener, which then goes.
        let _ = TcpStream::connect(self.shared.address);
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, client)) = listener.accept() {
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            let number = self.connections.fetch_add(1, Ordering::SeqCst);
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.serve(Wire::over(stream), client, number));
        }
    }

    /// The next message, kept for the test. A connection that is kept open may be silent for longer than a test lasts.
    fn next(&self, wire: &mut Wire, client: SocketAddr, connection: usize) -> Option<Fields> {
        wire.stream.set_read_timeout(None).unwrap();
        let raw = wire.receive()?;
        let message = decode(&raw);
        let signed =
            self.key.as_ref().is_some_and(|key| key.verifies(&message, &client, &SocketAddr::V4(self.address)));
        let received = Received { at_ns: now_ns(), connection, raw, fields: message.clone(), signed };
        self.received.lock().unwrap().push(received);
        Some(message)
    }

    fn serve(&self, mut wire: Wire, client: SocketAddr, connection: usize) {
        let Some(message) = self.next(&mut wire, client, connection) else { return };
        match (get(&message, "type"), get(&message, "token"), get(&message, "resource")) {
            (Some(Value::U8(1)), _, _) => wire.send(&encode(&self.status(&message))),
            (None, Some(Value::Bytes(token)), _) => self.second_step(wire, client, connection, &message, token),
            (None, None, Some(_)) => self.first_step(wire),
            _ => {}
        }
    }

    fn first_step(&self, mut wire: Wire) {
        let role = self.role.load(Ordering::SeqCst);
        if role == SECONDARY {
            let token = now_ns().to_le_bytes().repeat(2);
            let message = encode(&fields([("token", Value::Bytes(token.clone()))]));
            // Known before it is told: the primary comes with it at once.
            let mut tokens = self.tokens.lock().unwrap();
            wire.send(&message);
            tokens.insert(token, wire.stream);
        } else if role == PRIMARY {
            let priority = self.priority;
            let refusal = format!("Remote node acts as primary with higher priority (prioty number {priority}).");
            wire.send(&encode(&fields([("errmsg", text(&refusal)), ("priority", Value::I32(priority))])));
        } else {
            let refusal = "Remote node acts as init for the resource and not as secondary.";
            wire.send(&encode(&fields([("errmsg", text(refusal))])));
        }
    }

    /// Serves the primary until it goes: heartbeats come on its first connection, answers leave on its second.
    fn second_step(&self, mut answers: Wire, client: SocketAddr, connection: usize, proof: &Fields, token: &[u8]) {
        let Some(first) = self.tokens.lock().unwrap().remove(token) else { return };
        let mut first = Wire::over(first);
        let resuid = get(proof, "resuid").cloned().unwrap_or(Value::U64(0));
        first.send(&encode(&fields([("resuid", resuid)])));
        while let Some(message) = self.next(&mut first, client, connection) {
            let Some(Value::U64(seq)) = get(&message, "seq") else { return };
            answers.send(&heartbeat_answer(self.state.load(Ordering::SeqCst), *seq));
        }
    }

    fn status(&self, request: &Fields) -> Fields {
        let resource = get(request, "resource0").cloned().unwrap_or(text(""));
        fields([
            ("resource0", resource),
            ("exec0", text("/original/res.sh")),
            ("attempts_max0", Value::I32(5)),
            ("remoteaddr0.0", text("tcp4://192.0.2.1")),
            ("role0", Value::U8(self.role.load(Ordering::SeqCst))),
            ("workerpid0", Value::I32(4711)),
            ("complaints0", Value::I32(0)),
            ("complaints_critical0", Value::I32(3)),
            ("complaints_interval0", Value::I32(60)),
            ("heartbeat0", Value::I32(1)),
            ("remotestate0.0", text("connected")),
            ("state0", Value::U8(self.state.load(Ordering::SeqCst))),
            ("attempts0", Value::I32(0)),
        ])
    }
}
