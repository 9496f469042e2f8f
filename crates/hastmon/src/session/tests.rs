//! Sessions over streams in memory, with somebody in the middle who reads, changes, swaps and repeats.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hastmon_core::config::{Algorithm, Secret};
use proptest::collection::vec as many;
use proptest::prelude::*;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::*;
use crate::os::clock;

pub(super) fn key(secret: &str) -> Key {
    Key { algorithm: Algorithm::Sha256, secret: Secret::new(Zeroizing::new(secret.to_string())) }
}

pub(super) fn hello() -> List {
    List::new().with_str("node", "a").with_str("resource", "web").with_i32("priority", 100)
}

fn said(number: u64) -> List {
    List::new().with_u64("number", number)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), work).await.unwrap() })
}

/// What becomes of the message with this number in one direction.
type Change = Box<dyn FnMut(usize, List) -> Vec<List> + Send>;

fn nothing() -> Change {
    Box::new(|_, list| vec![list])
}

/// Changes a byte of the Noise message of the message with this number.
fn flip(number: usize) -> Change {
    Box::new(move |at, list| {
        let Some(noise) = list.u8s(NOISE).filter(|_| at == number) else { return vec![list] };
        let mut noise = noise.to_vec();
        *noise.last_mut().unwrap() ^= 1;
        vec![noise::without_noise(&list).with_u8s(NOISE, &noise)]
    })
}

async fn pass_on(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, mut change: Change) {
    let mut reader = MessageReader::taking(&[Version::V1], NETWORK_LIMIT);
    let mut number = 0;
    while let Ok(list) = reader.next(&mut from).await {
        for list in change(number, list) {
            let _ = to.write_all(&frame::encode(Version::V1, &list, NETWORK_LIMIT).unwrap()).await;
        }
        number += 1;
    }
    let _ = to.shutdown().await;
}

type Opened = Result<(Session<DuplexStream>, List), SessionError>;
type Answered = Result<Session<DuplexStream>, SessionError>;

async fn respond(mut stream: DuplexStream, key: Option<Key>) -> Answered {
    let first = MessageReader::taking(&[Version::V1], NETWORK_LIMIT).next(&mut stream).await?;
    Session::answer(stream, &first, said(7), key.as_ref()).await
}

/// Both sides of a new connection, with somebody in the middle of it.
async fn meet(keys: [Option<&str>; 2], up: Change, down: Change) -> (Opened, Answered) {
    let (ours, left) = duplex(1 << 20);
    let (right, theirs) = duplex(1 << 20);
    let (left_read, left_write) = split(left);
    let (right_read, right_write) = split(right);
    tokio::spawn(pass_on(left_read, right_write, up));
    tokio::spawn(pass_on(right_read, left_write, down));
    let [our_key, their_key] = keys.map(|secret| secret.map(key));
    tokio::join!(Session::open(ours, hello(), our_key.as_ref()), respond(theirs, their_key))
}

async fn meet_undisturbed(keys: [Option<&str>; 2]) -> (Session<DuplexStream>, Session<DuplexStream>) {
    let (opened, answered) = meet(keys, nothing(), nothing()).await;
    let (ours, answer) = opened.unwrap();
    assert_eq!(answer, said(7));
    (ours, answered.unwrap())
}

#[test]
fn both_sides_say_what_they_like_with_a_key_and_without() {
    run(async {
        for key in [None, Some("one")] {
            let (mut ours, mut theirs) = meet_undisturbed([key, key]).await;
            for number in 0..50 {
                ours.send(&said(number)).await.unwrap();
                ours.send(&said(number + 1000)).await.unwrap();
                theirs.send(&said(number + 2000)).await.unwrap();
                assert_eq!(theirs.recv().await.unwrap(), said(number));
                assert_eq!(theirs.recv().await.unwrap(), said(number + 1000));
                assert_eq!(ours.recv().await.unwrap(), said(number + 2000));
            }
            drop(ours);
            assert!(matches!(theirs.recv().await, Err(SessionError::Net(NetError::Closed))));
            assert!(matches!(theirs.recv().await, Err(SessionError::Over)));
            assert!(matches!(theirs.send(&said(0)).await, Err(SessionError::Over)));
        }
    });
}

#[test]
fn nothing_that_is_said_with_a_key_can_be_read_on_the_way() {
    run(async {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ears = [Arc::clone(&seen), Arc::clone(&seen)];
        let [up, down] = ears.map(|seen| -> Change {
            Box::new(move |_, list| {
                seen.lock().unwrap().extend(list.encode());
                vec![list]
            })
        });
        let (opened, answered) = meet([Some("one"), Some("one")], up, down).await;
        opened.unwrap().0.send(&List::new().with_str("x", "tell-tale")).await.unwrap();
        answered.unwrap().recv().await.unwrap();
        let seen = seen.lock().unwrap();
        let has = |word: &[u8]| seen.windows(word.len()).any(|window| window == word);
        assert!(has(b"resource") && !has(b"number") && !has(b"tell-tale"));
    });
}

#[test]
fn different_keys_are_an_error_on_both_sides_that_shows_neither() {
    run(async {
        let (opened, answered) = meet([Some("hunter2"), Some("hunter3")], nothing(), nothing()).await;
        for error in [opened.unwrap_err(), answered.unwrap_err()] {
            assert!(matches!(error, SessionError::Mismatch), "{error}");
            assert!(error.to_string().starts_with("the keys differ, or somebody has changed the message"));
            assert!(!format!("{error:?} {error}").contains("hunter"));
        }
    });
}

#[test]
fn a_key_on_one_side_only_is_an_error_on_both_that_says_on_which() {
    run(async {
        let (opened, answered) = meet([Some("one"), None], nothing(), nothing()).await;
        assert!(matches!(answered, Err(SessionError::NotKeyedHere)), "{answered:?}");
        let error = opened.unwrap_err().to_string();
        assert!(error.starts_with("refused: no key is configured here for this resource, and you use one"), "{error}");

        let (opened, answered) = meet([None, Some("one")], nothing(), nothing()).await;
        assert!(matches!(answered, Err(SessionError::PeerNotKeyed)), "{answered:?}");
        let error = opened.unwrap_err().to_string();
        assert!(error.starts_with("refused: a key is configured here for this resource, and you use none"), "{error}");
    });
}

#[test]
fn taking_the_key_out_of_the_conversation_opens_nothing() {
    run(async {
        let strip = || -> Change { Box::new(|_, list| vec![noise::without_noise(&list)]) };
        let (opened, answered) = meet([Some("one"), Some("one")], strip(), nothing()).await;
        assert!(matches!(opened, Err(SessionError::Refused(_))), "{opened:?}");
        assert!(matches!(answered, Err(SessionError::PeerNotKeyed)), "{answered:?}");
        let plain: Change = Box::new(|_, _| vec![said(7)]);
        let (opened, _) = meet([Some("one"), Some("one")], nothing(), plain).await;
        assert!(matches!(opened, Err(SessionError::PeerNotKeyed)), "{opened:?}");
    });
}

#[test]
fn a_first_message_with_a_changed_added_or_missing_field_is_refused() {
    run(async {
        let fields: [fn(List) -> List; 4] = [
            |list| list.with_u8("more", 1),
            |list| {
                List::new().with_str("node", "b").with_str("resource", "web").with_u8s(NOISE, list.u8s(NOISE).unwrap())
            },
            |list| hello().with_i32("priority", 1).with_u8s(NOISE, list.u8s(NOISE).unwrap()),
            |list| List::new().with_str("resource", "web").with_u8s(NOISE, list.u8s(NOISE).unwrap()),
        ];
        for change in fields {
            let up: Change = Box::new(move |at, list| vec![if at == 0 { change(list) } else { list }]);
            let (opened, answered) = meet([Some("one"), Some("one")], up, nothing()).await;
            assert!(matches!(answered, Err(SessionError::Mismatch)), "{answered:?}");
            let error = opened.unwrap_err().to_string();
            assert_eq!(error, "refused: the keys differ, or somebody has changed the message");
        }
    });
}

/// Whoever knows no key can make a Noise message 1 for any fields: the answer is then lost on it.
#[test]
fn a_first_message_by_somebody_without_the_key_opens_no_session() {
    run(async {
        let (_, forged) = Handshake::begin(&key("guess"), &hello().with_i32("priority", 1)).unwrap();
        let (mut ours, theirs) = duplex(1 << 20);
        ours.write_all(&frame::encode(Version::V1, &forged, NETWORK_LIMIT).unwrap()).await.unwrap();
        ours.shutdown().await.unwrap();
        let answered = respond(theirs, Some(key("one"))).await;
        assert!(matches!(answered, Err(SessionError::Unproven)), "{answered:?}");
    });
}

#[test]
fn a_recording_of_a_whole_session_is_refused_by_either_side() {
    run(async {
        let recordings: [Arc<Mutex<Vec<u8>>>; 2] = Default::default();
        let [up, down] = recordings.clone().map(|recording| -> Change {
            Box::new(move |_, list| {
                recording.lock().unwrap().extend(frame::encode(Version::V1, &list, NETWORK_LIMIT).unwrap());
                vec![list]
            })
        });
        let (opened, answered) = meet([Some("one"), Some("one")], up, down).await;
        let (mut ours, mut theirs) = (opened.unwrap().0, answered.unwrap());
        ours.send(&said(1)).await.unwrap();
        theirs.recv().await.unwrap();
        let [up, down] = recordings.map(|recording| recording.lock().unwrap().clone());

        let (mut player, stream) = duplex(1 << 20);
        player.write_all(&up).await.unwrap();
        let answered = respond(stream, Some(key("one"))).await;
        assert!(matches!(answered, Err(SessionError::Mismatch)), "{answered:?}");

        let (mut player, stream) = duplex(1 << 20);
        player.write_all(&down).await.unwrap();
        let opened = Session::open(stream, hello(), Some(&key("one"))).await;
        assert!(matches!(opened, Err(SessionError::Mismatch)), "{opened:?}");
    });
}

#[test]
fn a_changed_answer_or_proof_is_refused() {
    run(async {
        let (opened, answered) = meet([Some("one"), Some("one")], nothing(), flip(0)).await;
        assert!(matches!(opened, Err(SessionError::Mismatch)), "{opened:?}");
        assert!(matches!(answered, Err(SessionError::Mismatch)), "{answered:?}");
        let (_, answered) = meet([Some("one"), Some("one")], flip(1), nothing()).await;
        assert!(matches!(answered, Err(SessionError::Mismatch)), "{answered:?}");
    });
}

/// Sends three messages through the change; gives what is received until the session ends.
async fn received_through(change: Change) -> Vec<u64> {
    let (opened, answered) = meet([Some("one"), Some("one")], change, nothing()).await;
    let (mut ours, mut theirs) = (opened.unwrap().0, answered.unwrap());
    for number in 1..=3 {
        ours.send(&said(number)).await.unwrap();
    }
    let mut received = Vec::new();
    loop {
        match theirs.recv().await {
            Ok(list) => received.push(list.u64("number").unwrap()),
            Err(error) => {
                assert!(matches!(error, SessionError::Mismatch), "{error}");
                assert!(matches!(theirs.recv().await, Err(SessionError::Over)));
                // The connection is closed, too.
                assert!(matches!(ours.recv().await, Err(SessionError::Net(NetError::Closed))));
                return received;
            }
        }
    }
}

// Number 0 is the first message, 1 the proof, 2 to 4 what is said.
#[test]
fn a_changed_message_ends_the_session() {
    run(async { assert_eq!(received_through(flip(3)).await, [1]) });
}

#[test]
fn a_repeated_message_ends_the_session() {
    run(async {
        let twice: Change = Box::new(|at, list| if at == 3 { vec![list.clone(), list] } else { vec![list] });
        assert_eq!(received_through(twice).await, [1, 2]);
    });
}

#[test]
fn messages_in_another_order_end_the_session_and_so_does_a_missing_one() {
    run(async {
        let mut kept = Vec::new();
        let swapped: Change = Box::new(move |at, list| {
            if at == 2 {
                kept.push(list);
                return Vec::new();
            }
            let mut lists = vec![list];
            lists.append(&mut kept);
            lists
        });
        assert_eq!(received_through(swapped).await, [0; 0]);
        let lost: Change = Box::new(|at, list| if at == 3 { Vec::new() } else { vec![list] });
        assert_eq!(received_through(lost).await, [1]);
    });
}

#[test]
fn a_message_in_plain_ends_a_session_with_a_key() {
    run(async {
        let plain: Change = Box::new(|at, list| vec![if at == 3 { said(2) } else { list }]);
        assert_eq!(received_through(plain).await, [1]);
    });
}

#[test]
fn a_session_gets_through_a_stream_that_carries_single_bytes() {
    run(async {
        for secret in [None, Some("one")] {
            let key = secret.map(key);
            let (ours, theirs) = duplex(1);
            let talk = async {
                let (mut ours, _) = Session::open(ours, hello(), key.as_ref()).await.unwrap();
                ours.send(&said(1)).await.unwrap();
                ours.recv().await.unwrap()
            };
            let reply = async {
                let mut theirs = respond(theirs, key.clone()).await.unwrap();
                let list = theirs.recv().await.unwrap();
                theirs.send(&list).await.unwrap();
                theirs
            };
            assert_eq!(tokio::join!(talk, reply).0, said(1));
        }
    });
}

#[test]
fn a_list_that_is_too_large_is_not_sent_and_the_session_goes_on() {
    run(async {
        for key in [None, Some("one")] {
            let (mut ours, mut theirs) = meet_undisturbed([key, key]).await;
            let large = List::new().with_u8s("x", &vec![1; frame::PLAINTEXT_LIMIT]);
            let error = ours.send(&large).await.unwrap_err();
            assert!(matches!(error, SessionError::Net(NetError::TooLarge(_))), "{error}");
            ours.send(&said(1)).await.unwrap();
            assert_eq!(theirs.recv().await.unwrap(), said(1));
            let (stream, _other) = duplex(64);
            let key = key.map(self::key);
            let opened = Session::open(stream, large.with_str("resource", "web"), key.as_ref()).await;
            assert!(matches!(opened, Err(SessionError::Net(NetError::TooLarge(_)))), "{opened:?}");
        }
    });
}

#[test]
fn an_announced_size_above_the_limit_ends_it_before_it_is_read() {
    run(async {
        let (mut ours, theirs) = duplex(1 << 16);
        ours.write_all(&[1, 1, 0, 1, 0]).await.unwrap();
        let opened = Session::open(theirs, hello().with_u8("x", 1), None).await;
        assert!(matches!(opened, Err(SessionError::Net(NetError::Frame(_)))), "{opened:?}");
    });
}

#[test]
fn cancelling_a_receive_or_a_send_at_any_point_loses_nothing() {
    run(async {
        let key = key("one");
        // Room for a few bytes only: every message takes many steps, and each step is cancelled.
        let (ours, theirs) = duplex(7);
        let (opened, theirs) =
            tokio::join!(Session::open(ours, hello(), Some(&key)), respond(theirs, Some(key.clone())));
        let (mut ours, mut theirs) = (opened.unwrap().0, theirs.unwrap());
        let mut received = Vec::new();
        for number in 1..=5 {
            // Begun and cancelled at once; the rest goes out with the next one.
            let list = said(number);
            tokio::select! {
                biased;
                _ = ours.send(&list) => panic!("there is no room"),
                () = std::future::ready(()) => {}
            }
            // While the next one is begun, the receiver is cancelled again and again.
            let flush = async {
                ours.open.as_mut().unwrap().flush().await.unwrap();
            };
            tokio::pin!(flush);
            let mut is_sent = false;
            while !received.contains(&number) {
                tokio::select! {
                    biased;
                    list = theirs.recv() => received.push(list.unwrap().u64("number").unwrap()),
                    () = &mut flush, if !is_sent => is_sent = true,
                    () = tokio::task::yield_now() => {}
                }
            }
            if !is_sent {
                flush.await;
            }
        }
        assert_eq!(received, [1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_refusal_reaches_the_caller_with_all_that_it_says() {
    run(async {
        for key in [None, Some(key("one"))] {
            let (ours, mut theirs) = duplex(1 << 16);
            let refusal = List::new().with_str("errmsg", "no such resource").with_i32("priority", 3);
            let reply = async {
                MessageReader::taking(&[Version::V1], NETWORK_LIMIT).next(&mut theirs).await.unwrap();
                refuse(theirs, refusal.clone()).await.unwrap();
            };
            let (opened, ()) = tokio::join!(Session::open(ours, hello(), key.as_ref()), reply);
            let error = opened.unwrap_err();
            assert_eq!(error.to_string(), "refused: no such resource");
            assert!(matches!(error, SessionError::Refused(list) if list == refusal));
        }
    });
}

#[test]
fn a_first_message_without_a_resource_is_an_error() {
    run(async {
        let (stream, _other) = duplex(64);
        let opened = Session::open(stream, said(1), Some(&key("one"))).await;
        assert!(matches!(opened, Err(SessionError::Net(NetError::Lacks(_)))), "{opened:?}");
    });
}

/// Bytes that look more or less like messages.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let noise = many(any::<u8>(), 0..200);
    let list = (noise, any::<bool>(), any::<bool>()).prop_map(|(noise, resource, refusal)| {
        let list = if resource { hello() } else { said(1) };
        let list = if refusal { list.with_str("errmsg", "no") } else { list };
        frame::encode(Version::V1, &list.with_u8s(NOISE, &noise), NETWORK_LIMIT).unwrap()
    });
    let framed = many(any::<u8>(), 0..100).prop_map(|body| {
        let size = u32::try_from(body.len()).unwrap().to_le_bytes();
        [vec![1], size.to_vec(), body].concat()
    });
    many(prop_oneof![list, framed, many(any::<u8>(), 0..50)], 0..4).prop_map(|parts| parts.concat())
}

proptest! {
    // Each case opens several sessions, which an unoptimized build takes its time for.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_at_any_point_are_an_error_and_no_panic(bytes in any_stream()) {
        run(async {
            for keyed in [false, true] {
                let key = keyed.then(|| key("one"));
                let (mut ours, theirs) = duplex(1 << 20);
                ours.write_all(&bytes).await.unwrap();
                ours.shutdown().await.unwrap();
                if let Ok(mut session) = respond(theirs, key.clone()).await {
                    assert!(!keyed);
                    while session.recv().await.is_ok() {}
                }
                let (mut ours, theirs) = duplex(1 << 20);
                ours.write_all(&bytes).await.unwrap();
                ours.shutdown().await.unwrap();
                if let Ok((mut session, _)) = Session::open(theirs, hello(), key.as_ref()).await {
                    assert!(!keyed);
                    while session.recv().await.is_ok() {}
                }
                // In the place of what is said in an open session.
                let (ours, theirs) = duplex(1 << 20);
                let (opened, answered) =
                    tokio::join!(Session::open(ours, hello(), key.as_ref()), respond(theirs, key.clone()));
                let (mut ours, mut theirs) = (opened.unwrap().0, answered.unwrap());
                let stream = &mut ours.open.as_mut().unwrap().stream;
                stream.write_all(&bytes).await.unwrap();
                stream.shutdown().await.unwrap();
                let first = theirs.recv().await;
                assert!(!keyed || first.is_err());
            }
        });
    }
}

/// cargo test --release -p hastmon --lib how_long_a_session -- --ignored --nocapture
#[test]
#[ignore = "a measurement"]
fn how_long_a_session_takes_to_open() {
    for keyed in [false, true] {
        let key = keyed.then(|| key("a secret of usual length"));
        let mut times: Vec<Duration> = (0..1000).map(|_| run(open_over_loopback(key.clone()))).collect();
        times.sort();
        println!("keyed {keyed}: median {:?}, worst {:?}", times[500], times[999]);
    }
}

async fn open_over_loopback(key: Option<Key>) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let start = clock::now();
    let connect = async {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Session::open(stream, hello(), key.as_ref()).await.unwrap()
    };
    let accept = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let first = MessageReader::taking(&[Version::V1], NETWORK_LIMIT).next(&mut stream).await.unwrap();
        Session::answer(stream, &first, said(7), key.as_ref()).await.unwrap()
    };
    let _both = tokio::join!(connect, accept);
    clock::now().since(start)
}
