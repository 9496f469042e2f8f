//! A service for trying hastmon out: it answers every connection with one line. Needs nothing but itself.
//!
//! - `greeter serve PORT NAME`: listens on 127.0.0.1:PORT and says "NAME, process PID" to whoever connects
//! - `greeter ask PORT`: prints what the service says; exit 1 when nobody answers
//! - `greeter clock`: prints milliseconds of a clock that no one can set, for scripts that measure

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long one question may take. An answer from this host comes at once or never.
const PATIENCE: Duration = Duration::from_millis(500);

/// A greeting is a line; nobody sends more than this.
const LONGEST_GREETING: u64 = 200;

fn serve(port: u16, name: &str) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let greeting = format!("{name}, process {}\n", std::process::id());
    for caller in listener.incoming() {
        // A caller that hangs up is no reason to end the service.
        let _ = caller.and_then(|mut caller| caller.write_all(greeting.as_bytes()));
    }
    Ok(())
}

fn ask(port: u16) -> io::Result<String> {
    let service = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&service, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut greeting = String::new();
    stream.take(LONGEST_GREETING).read_to_string(&mut greeting)?;
    if greeting.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(greeting)
}

fn clock_ms() -> String {
    let now = clock_gettime(ClockId::Monotonic);
    format!("{}\n", now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let port = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let answer = match words.as_slice() {
        ["serve", _, name] => serve(port, name).map(|()| String::new()),
        ["ask", _] => ask(port),
        ["clock"] => Ok(clock_ms()),
        _ => Err(io::Error::other("usage: greeter serve PORT NAME | ask PORT | clock")),
    };
    match answer {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("greeter: {error}");
            ExitCode::FAILURE
        }
    }
}
