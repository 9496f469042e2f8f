//! As much of HTTP/1.1 as a collector of metrics needs: one GET on a connection, answered and closed. Never reads a body, never keeps a
//! connection, never waits for long.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A collector that has not asked after this time is sent away, and one that does not take its answer, too.
const TALK_TIME: Duration = Duration::from_secs(5);
/// The longest request with its headers, in bytes: those of Prometheus and of browsers are shorter.
const MAX_REQUEST: usize = 8 << 10;
/// How much is read at once.
const CHUNK: usize = 1024;

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Metrics { with_body: bool },
    Refused(&'static str),
}

/// Hears one request; `metrics` is asked for the text when it is wanted, and says `None` when there is none to be had.
pub(in crate::daemon) async fn serve(mut stream: TcpStream, metrics: impl AsyncFnOnce() -> Option<String>) {
    let Ok(Some(head)) = tokio::time::timeout(TALK_TIME, head(&mut stream)).await else { return };
    let (status, body, with_body) = match understand(&head) {
        Wanted::Refused(status) => (status, String::new(), true),
        Wanted::Metrics { with_body } => match metrics().await {
            Some(text) => ("200 OK", text, with_body),
            None => ("503 Service Unavailable", String::new(), with_body),
        },
    };
    let (kind, body) = match body.is_empty() {
        true => ("text/plain; charset=utf-8", format!("{status}: GET /metrics\n")),
        false => (super::text::CONTENT_TYPE, body),
    };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if with_body {
        answer.push_str(&body);
    }
    // Who does not take the answer has itself to blame.
    let _ = tokio::time::timeout(TALK_TIME, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

/// All up to the empty line; `None`: it does not come, or is too long.
async fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(CHUNK);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MAX_REQUEST || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn understand(head: &[u8]) -> Wanted {
    let line = head.split(|byte| *byte == b'\r').next().and_then(|line| str::from_utf8(line).ok()).unwrap_or_default();
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    match method {
        _ if !version.starts_with("HTTP/1.") || words.next().is_some() => Wanted::Refused("400 Bad Request"),
        Some("GET" | "HEAD") if path != "/metrics" => Wanted::Refused("404 Not Found"),
        Some("GET") => Wanted::Metrics { with_body: true },
        Some("HEAD") => Wanted::Metrics { with_body: false },
        _ => Wanted::Refused("405 Method Not Allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_request_is_for_the_metrics_or_refused_with_the_reason() {
        for (line, wanted) in [
            ("GET /metrics HTTP/1.1", Wanted::Metrics { with_body: true }),
            ("GET /metrics?name=x HTTP/1.0", Wanted::Metrics { with_body: true }),
            ("HEAD /metrics HTTP/1.1", Wanted::Metrics { with_body: false }),
            ("GET / HTTP/1.1", Wanted::Refused("404 Not Found")),
            ("POST /metrics HTTP/1.1", Wanted::Refused("405 Method Not Allowed")),
            ("GET /metrics", Wanted::Refused("400 Bad Request")),
            ("GET /metrics HTTP/2", Wanted::Refused("400 Bad Request")),
            ("GET /metrics HTTP/1.1 x", Wanted::Refused("400 Bad Request")),
            ("\u{0}", Wanted::Refused("400 Bad Request")),
            ("", Wanted::Refused("400 Bad Request")),
        ] {
            assert_eq!(understand(format!("{line}\r\nHost: x\r\n\r\n").as_bytes()), wanted, "{line:?}");
        }
        assert_eq!(understand(b"\xff\xfe\r\n\r\n"), Wanted::Refused("400 Bad Request"));
    }

    /// What comes back for these bytes.
    fn answer(request: &[u8]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let asks = async {
                caller.write_all(request).await.unwrap();
                let mut text = String::new();
                // A request that is cut off is answered by a reset.
                let _ = caller.read_to_string(&mut text).await;
                text
            };
            let served = serve(stream, async || Some("x_up 1\n".to_string()));
            tokio::join!(served, asks).1
        })
    }

    #[test]
    fn the_answer_has_its_length_and_ends_the_connection() {
        assert_eq!(
            answer(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 7\r\nConnection: close\r\n\r\nx_up 1\n"
        );
        assert!(answer(b"HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("Content-Length: 7\r\nConnection: close\r\n\r\n"));
        assert!(answer(b"GET / HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n404 Not Found: GET /metrics\n"));
    }

    #[test]
    fn a_request_without_end_is_not_read_without_end() {
        assert_eq!(answer(&vec![b'x'; MAX_REQUEST]), "");
    }
}
