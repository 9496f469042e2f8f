//! Our daemon among originals: a peer written from the protocol's description alone plays the original, and what the
//! daemon sends is compared with what originals were recorded to send, byte for byte.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::support::lab::{Lab, Plan};
use crate::support::peer::{
    self, Fields, INIT, Key, Original, PRIMARY, RUN, Received, SECONDARY, STOPPED, Session, Value, ask, ask_signed,
    decode, encode, fields, get, heartbeat_answer, poll_of, time_of_day,
};
use crate::support::recorded;
use crate::support::time::{stays, wait_for, wait_some};

const ALGORITHMS: [&str; 4] = ["MD5", "SHA1", "SHA256", "RIPEMD160"];
const SECRET: &str = "s3cret";

/// More than the 3 s after which complaints would have changed something.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

fn key_plan(plan: Plan, algorithm: &str) -> Plan {
    plan.set("key", &format!("{{ algorithm {algorithm} secret {SECRET} }}"))
}

/// What one side of a recorded connection sent.
fn recorded_messages(client: &str, server: &str, nth: usize, side: &str) -> Vec<Vec<u8>> {
    let recording = recorded::load("nokey.json");
    let messages = recorded::sent(&recording, client, server, nth)[side].as_array().unwrap().clone();
    messages.iter().map(recorded::bytes).collect()
}

fn number(fields: &Fields, name: &str) -> u64 {
    match get(fields, name) {
        Some(Value::U8(number)) => u64::from(*number),
        Some(Value::U64(number)) => *number,
        other => panic!("{name} is {other:?} in {fields:?}"),
    }
}

/// Waits for the first message that is `so`.
fn first(original: &Original, what: &str, so: impl Fn(&Received) -> bool) -> Received {
    wait_some(what, || original.those(&so).into_iter().next())
}

fn token_of(message: &Fields) -> Vec<u8> {
    match get(message, "token") {
        Some(Value::Bytes(token)) => token.clone(),
        other => panic!("the token is {other:?}"),
    }
}

/// Daemon a alone as primary, its only remote b an original.
fn our_primary(plan: Plan) -> Lab {
    let lab = plan.set("complaint_count", "30").loopback();
    lab.start("a");
    lab
}

#[test]
fn our_primary_greets_an_original_secondary_with_the_recorded_bytes() {
    let lab = our_primary(Plan::new(&["a", "b", "w"]));
    let b = Original::listen(lab.ip("b"), SECONDARY, STOPPED, 1, None);
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let greeting = first(&b, "a greets b", Received::is_greeting);
    assert_eq!(greeting.raw, recorded_messages("a", "b", 0, "from_client")[0]);
    let proof = first(&b, "a comes again", Received::is_proof);
    let model = recorded_messages("a", "b", 1, "from_client")[0].clone();
    let old = token_of(&decode(&model));
    let at = model.windows(old.len()).position(|bytes| bytes == old).unwrap();
    let expected = [&model[..at], &token_of(&proof.fields), &model[at + old.len()..]].concat();
    assert_eq!(proof.raw, expected);
    assert!(proof.connection > greeting.connection, "the second step has a connection of its own");
    wait_for("four heartbeats", || b.those(Received::is_heartbeat).len() >= 4);
    for (heartbeat, seq) in b.those(Received::is_heartbeat).into_iter().zip(1..) {
        let state = u8::try_from(number(&heartbeat.fields, "state")).unwrap();
        assert_eq!(heartbeat.raw, peer::heartbeat(state, seq));
    }
    assert_eq!(lab.res("a").remotes[0].1.as_deref(), Some("connected"));
}

#[test]
fn our_primary_sends_a_heartbeat_at_every_interval() {
    let lab = our_primary(Plan::new(&["a", "b", "w"]));
    let b = Original::listen(lab.ip("b"), SECONDARY, STOPPED, 1, None);
    lab.role("a", "primary");
    wait_for("six heartbeats", || b.those(Received::is_heartbeat).len() >= 6);
    let times: Vec<u64> = b.those(Received::is_heartbeat).iter().map(|heartbeat| heartbeat.at_ns).collect();
    let span = times[5] - times[0];
    assert!(span >= 4_500_000_000, "five intervals of 1 s took {span} ns");
}

#[test]
fn our_primary_does_not_start_while_an_original_runs_the_resource() {
    let lab = our_primary(Plan::new(&["a", "b", "w"]));
    let b = Original::listen(lab.ip("b"), SECONDARY, RUN, 1, None);
    lab.role("a", "primary");
    wait_for("a is connected", || lab.res("a").remotes[0].1.as_deref() == Some("connected"));
    lab.wait_call("a", "status res", 4);
    assert_eq!((lab.count("a", "start res"), lab.running("a")), (0, 0));
    b.set(SECONDARY, STOPPED);
    lab.wait_status("a", "primary", "run");
}

#[test]
fn our_primary_gives_way_to_an_original_primary_of_higher_priority() {
    let lab = our_primary(Plan::new(&["a", "b", "w"]).priority("a", 5).priority("b", 3));
    let _b = Original::listen(lab.ip("b"), PRIMARY, RUN, 3, None);
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    lab.role("a", "primary");
    lab.wait_call("a", "role res primary secondary", 1);
    lab.wait_status("a", "secondary", "stopped");
    let session = Session::open(lab.ip("b"), lab.listens("a"), "res", 3, None);
    assert!(session.is_ok(), "as secondary it serves the other: {session:?}");
}

#[test]
fn our_secondary_serves_an_original_primary_with_the_recorded_answers() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.start("b");
    lab.role("b", "secondary");
    lab.wait_status("b", "secondary", "stopped");
    let mut session = Session::open(lab.ip("a"), lab.listens("b"), "res", 0, None).unwrap();
    let models = recorded_messages("a", "b", 0, "from_server");
    let mut token_model = decode(&models[0]);
    token_model[0].1 = Value::Bytes(token_of(&decode(&session.answers[0])));
    assert_eq!(session.answers, [encode(&token_model), recorded::normal(&models[1], &[])]);
    assert_eq!(token_of(&decode(&session.answers[0])).len(), 16);
    for seq in 1..4 {
        assert_eq!(session.heartbeat(RUN), Some(heartbeat_answer(STOPPED, seq)));
    }
    lab.wait_call("b", "connect res", 1);
    assert_eq!(lab.res("b").remotes[0], (lab.address("a"), Some("connected".to_owned())));
    drop(session);
    lab.wait_call("b", "disconnect res", 1);
    wait_for("b knows it", || lab.res("b").remotes[0].1.as_deref() == Some("disconnected"));
}

#[test]
fn our_secondary_drops_a_primary_that_is_silent_for_two_heartbeats() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.start("b");
    lab.role("b", "secondary");
    let mut session = Session::open(lab.ip("a"), lab.listens("b"), "res", 0, None).unwrap();
    assert!(session.heartbeat(STOPPED).is_some());
    assert!(session.ends());
    lab.wait_call("b", "disconnect res", 1);
}

#[test]
fn our_secondary_leaves_the_primary_that_it_serves_for_a_new_one() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.start("b");
    lab.role("b", "secondary");
    let mut old = Session::open(lab.ip("a"), lab.listens("b"), "res", 0, None).unwrap();
    assert!(old.heartbeat(STOPPED).is_some());
    let mut new = Session::open(lab.ip("a"), lab.listens("b"), "res", 0, None).unwrap();
    assert!(old.ends());
    assert!(new.heartbeat(STOPPED).is_some());
    assert!(new.heartbeat(RUN).is_some());
}

#[test]
fn our_secondary_takes_over_when_an_original_watchdog_has_complained_more_than_complaint_count_times() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.start("b");
    lab.role("b", "secondary");
    let complain = |times: u32| {
        let before = lab.res("b").complaints;
        (0..times).for_each(|_| peer::complain(lab.ip("w"), lab.listens("b"), "res", None));
        wait_for("complaints are counted", || lab.res("b").complaints == before + times);
    };
    complain(3);
    stays(LONG_ENOUGH, "three complaints change nothing", || lab.res("b").role == "secondary");
    let mut session = Session::open(lab.ip("a"), lab.listens("b"), "res", 0, None).unwrap();
    assert!(session.heartbeat(RUN).is_some());
    wait_for("a connection clears the complaints", || lab.res("b").complaints == 0);
    drop(session);
    wait_for("it is away", || lab.res("b").remotes[0].1.as_deref() != Some("connected"));
    complain(3);
    assert_eq!(lab.res("b").role, "secondary");
    peer::complain(lab.ip("w"), lab.listens("b"), "res", None);
    lab.wait_call("b", "role res secondary primary", 1);
    // Of complaints that come at once, one call may tell.
    lab.wait_call("b", "complain res", 2);
    lab.wait_call("b", "up res", 1);
}

#[test]
fn complaints_of_strangers_do_not_count() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.start("b");
    lab.role("b", "secondary");
    (0..6).for_each(|_| peer::complain(lab.ip("x"), lab.listens("b"), "res", None));
    (0..2).for_each(|_| peer::complain(lab.ip("w"), lab.listens("b"), "res", None));
    wait_for("the watchdog's are counted", || lab.res("b").complaints == 2);
    stays(Duration::from_secs(2), "the stranger's are not", || lab.res("b").complaints == 2);
}

#[test]
fn our_watchdog_polls_originals_and_complains_with_the_recorded_bytes() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    let a = Original::listen(lab.ip("a"), PRIMARY, RUN, 0, None);
    let b = Original::listen(lab.ip("b"), SECONDARY, STOPPED, 1, None);
    lab.start("w");
    lab.role("w", "watchdog");
    let shows = |states: [&str; 2]| {
        let remotes = lab.res("w").remotes.into_iter().filter_map(|(_, state)| state);
        remotes.eq(states.map(str::to_owned))
    };
    wait_for("w shows both", || shows(["primary/run", "secondary/stopped"]));
    let poll = first(&a, "w polls a", Received::is_poll);
    assert_eq!(poll.raw, recorded_messages("w", "a", 0, "from_client")[0]);
    wait_for("w polls both", || a.received().len() >= 3 && b.received().len() >= 3);
    assert!(b.those(|message| !message.is_poll()).is_empty(), "no complaint while the primary runs");
    a.set(INIT, STOPPED);
    let complaint = first(&b, "w complains to b", Received::is_complaint);
    let recording = recorded::load("nokey.json");
    let is_complaint = |message: &&serde_json::Value| peer::is_complaint(&decode(&recorded::bytes(message)));
    let connections = recording["network"].as_array().unwrap().iter();
    let sent = connections.flat_map(|connection| connection["from_client"].as_array().unwrap());
    assert_eq!(complaint.raw, recorded::bytes(sent.into_iter().find(is_complaint).unwrap()));
    wait_for("w shows that a has no role", || shows(["init/stopped", "secondary/stopped"]));
    lab.wait_call("w", "complain res", 2);
    assert!(a.those(Received::is_complaint).is_empty(), "a is no secondary: nobody complains there");
    wait_for("w has counted its complaints", || lab.res("w").complaints >= 2);
    b.set(PRIMARY, RUN);
    wait_for("w is content", || shows(["init/stopped", "primary/run"]));
}

#[test]
fn our_primary_signs_for_an_original_and_our_secondary_understands_its_signature() {
    for algorithm in ALGORITHMS {
        let key = Key::new(algorithm, SECRET);
        let lab = our_primary(key_plan(Plan::new(&["a", "b", "w"]), algorithm));
        let b = Original::listen(lab.ip("b"), SECONDARY, STOPPED, 1, Some(key.clone()));
        lab.role("a", "primary");
        let names = |message: &Received| message.fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let greeting = first(&b, "a greets b", Received::is_greeting);
        assert!(greeting.signed, "{algorithm}: {:?}", greeting.fields);
        assert_eq!(names(&greeting), ["resource", "priority", "now", "auth_hash"]);
        let proof = first(&b, "a comes again", Received::is_proof);
        assert!(proof.signed, "{algorithm}: {:?}", proof.fields);
        assert_eq!(names(&proof), ["now", "auth_hash", "resource", "token", "resuid"]);
        wait_for("heartbeats follow", || b.those(Received::is_heartbeat).len() >= 2);
        assert!(peer::poll(lab.ip("w"), lab.listens("a"), "res", Some(&key)).is_some());
        drop(b);

        lab.role("a", "secondary");
        let mut session = Session::open(lab.ip("b"), lab.listens("a"), "res", 0, Some(&key)).unwrap();
        assert!(session.heartbeat(RUN).is_some());
    }
}

#[test]
fn our_watchdog_signs_its_polls_and_its_complaints() {
    for algorithm in ALGORITHMS {
        let key = Key::new(algorithm, SECRET);
        let lab = key_plan(Plan::new(&["a", "b", "w"]), algorithm).loopback();
        let b = Original::listen(lab.ip("b"), SECONDARY, STOPPED, 1, Some(key));
        lab.start("w");
        lab.role("w", "watchdog");
        for message in [first(&b, "a poll", Received::is_poll), first(&b, "a complaint", Received::is_complaint)] {
            assert!(message.signed, "{algorithm}: {:?}", message.fields);
            let names: Vec<&str> = message.fields.iter().take(2).map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["now", "auth_hash"]);
        }
    }
}

/// True when an answer is a status, that is, when the request was granted.
fn is_granted(answers: &[Vec<u8>]) -> bool {
    answers.iter().any(|answer| get(&decode(answer), "role0").is_some())
}

#[test]
fn with_a_key_nobody_is_served_who_has_not_signed_with_it_now() {
    let lab = key_plan(Plan::new(&["a", "b", "w"]), "SHA256").loopback();
    lab.start("a");
    lab.role("a", "secondary");
    let (right, wrong) = (Key::new("SHA256", SECRET), Key::new("SHA256", "another"));
    let (w, a) = (lab.ip("w"), lab.listens("a"));
    let polled = |key: &Key, seconds_ago: u64| {
        let sign = |client: &_, server: &_| key.sign_at(time_of_day() - seconds_ago, client, server);
        is_granted(&ask_signed(w, a, poll_of("res"), sign))
    };
    assert!(polled(&right, 0), "signed now");
    assert!(polled(&right, 5), "signed 5 s ago");
    assert!(!polled(&right, 60), "signed a minute ago");
    assert!(!polled(&wrong, 0), "signed with another secret");
    assert!(!is_granted(&ask(w, a, &encode(&poll_of("res")))), "not signed");
    for key in [None, Some(&wrong)] {
        assert!(Session::open(lab.ip("b"), a, "res", 0, key).is_err(), "a primary with {key:?}");
        (0..6).for_each(|_| peer::complain(w, a, "res", key));
    }
    assert!(Session::open(lab.ip("b"), a, "res", 0, Some(&right)).is_ok());
    peer::complain(w, a, "res", Some(&right));
    wait_for("the signed complaint is counted", || lab.res("a").complaints == 1);
    stays(Duration::from_secs(2), "the others are not", || lab.res("a").complaints == 1);
}

/// The answer to a request for `res` that was not signed as it must be.
fn not_signed() -> Vec<u8> {
    encode(&fields([("resource0", Value::Text("res".to_owned())), ("error0", Value::I16(5))]))
}

#[test]
fn fault_12_roles_are_set_over_the_network_by_a_friend_who_has_not_signed() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.start("a");
    for friend in ["w", "b"] {
        let answer = peer::set_role(lab.ip(friend), lab.listens("a"), PRIMARY, None);
        assert_eq!(answer, Some(not_signed()), "{friend}");
    }
    assert_eq!(peer::set_role(lab.ip("x"), lab.listens("a"), PRIMARY, None), None);
    assert_eq!(lab.res("a").role, "init");
    assert!(lab.events().is_empty());
}

#[test]
fn with_a_key_a_role_can_be_set_over_the_network_by_who_has_signed() {
    let lab = key_plan(Plan::new(&["a", "b", "w"]), "SHA1").loopback();
    lab.start("a");
    let key = Key::new("SHA1", SECRET);
    let (w, a) = (lab.ip("w"), lab.listens("a"));
    for wrong in [None, Some(Key::new("SHA1", "another"))] {
        assert_eq!(peer::set_role(w, a, SECONDARY, wrong.as_ref()), Some(not_signed()));
    }
    assert_eq!(lab.res("a").role, "init");
    let text = |text: &str| Value::Text(text.to_owned());
    let granted = encode(&fields([("resource0", text("res")), ("role0", text("init"))]));
    assert_eq!(peer::set_role(w, a, SECONDARY, Some(&key)), Some(granted));
    assert_eq!(lab.res("a").role, "secondary");
}

/// The recorded configuration of `errors.json`: priorities 5 and 7.
fn recorded_errors_lab(complaint_count: &str) -> Lab {
    let plan = Plan::new(&["a", "b", "w"]).priority("a", 5).priority("b", 7);
    let lab = plan.set("complaint_count", complaint_count).loopback();
    lab.start("a");
    lab
}

/// Sends a recorded request from the node that sent it: the replies, and those that were recorded.
fn replay(lab: &Lab, case: &serde_json::Value) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let hosts = recorded::load("errors.json")["hosts"].clone();
    let addresses: Vec<(String, String)> =
        ["a", "b", "w"].map(|node| (hosts[node].as_str().unwrap().to_owned(), lab.ip(node).to_string())).into();
    let script = lab.script("a").display().to_string();
    let mut replace: Vec<(&str, &str)> = addresses.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
    replace.push(("/tmp/lab-err/res.sh", &script));
    let to: SocketAddrV4 = lab.listens(case["to"].as_str().unwrap());
    let replies = ask(lab.ip(case["from"].as_str().unwrap()), to, &recorded::bytes(&case["request"]));
    let recorded = case["reply"].as_array().unwrap().iter();
    (replies, recorded.map(|reply| recorded::normal(&recorded::bytes(reply), &replace)).collect())
}

#[test]
fn refusals_are_those_that_were_recorded() {
    let idle = recorded_errors_lab("3");
    let primary = recorded_errors_lab("100");
    let _b = Original::listen(primary.ip("b"), SECONDARY, STOPPED, 7, None);
    primary.role("a", "primary");
    primary.wait_status("a", "primary", "run");
    let cases = recorded::load("errors.json")["cases"].as_array().unwrap().clone();
    assert_eq!(cases.len(), 14);
    for case in &cases {
        let what = case["what"].as_str().unwrap();
        let lab = if what.contains("to a primary of higher priority") { &primary } else { &idle };
        let (replies, expected) = replay(lab, case);
        match what {
            // Fault 12: the original does it.
            "set role over tcp from a friend" => assert_eq!(replies, [not_signed()], "{what}"),
            _ => assert_eq!(replies, expected, "{what}"),
        }
    }
    assert_eq!((idle.res("a").role.as_str(), idle.is_up("a")), ("init", true));
    assert_eq!(primary.res("a").role, "primary");
}

#[test]
fn our_primary_gives_way_to_a_caller_of_equal_or_lower_number_and_answers_as_what_it_was() {
    let lab = recorded_errors_lab("100");
    let _b = Original::listen(lab.ip("b"), SECONDARY, STOPPED, 7, None);
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    let cases = recorded::load("errors.json")["cases"].as_array().unwrap().clone();
    let case = cases.iter().find(|case| case["what"] == "handshake to a primary of equal or lower priority").unwrap();
    let (replies, expected) = replay(&lab, case);
    assert_eq!(replies, expected);
    lab.wait_stopped("a");
    assert_eq!(lab.res("a").role, "init");
    lab.wait_call("a", "role res primary init", 1);
}

#[test]
fn a_poll_from_the_network_shows_what_the_control_socket_shows() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.run_standard();
    let answer = peer::poll(lab.ip("w"), lab.listens("a"), "res", None).unwrap();
    let recording = recorded::load("nokey.json");
    let model = &recorded::sent(&recording, "w", "a", 3)["from_server"][0];
    let script = lab.script("a").display().to_string();
    let addresses = [("10.77.0.2", lab.ip("b").to_string())];
    let replace = [("/tmp/lab-cap/res.sh", script.as_str()), (addresses[0].0, addresses[0].1.as_str())];
    let mut expected = decode(&recorded::normal(&recorded::bytes(model), &replace));
    for (name, value) in &mut expected {
        match name.as_str() {
            "workerpid0" => *value = Value::I32(lab.res("a").worker.unwrap()),
            "complaints_critical0" => *value = Value::I32(3),
            _ => {}
        }
    }
    assert_eq!(answer, encode(&expected), "{:?}", decode(&answer));
}
