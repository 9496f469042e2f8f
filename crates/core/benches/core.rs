//! How long the codec and the configuration take: messages to bytes and back, and a file to a checked configuration. Measures, never fails on
//! a time. `cargo bench -p hastmon-core --bench core`; `bench/run` puts the figures into its table.

fn main() {
    // `cargo test --all-targets` runs benchmarks as well, to see that they can be built.
    #[cfg(test)]
    if std::env::args().any(|word| word == "--bench") {
        figures::main();
    }
}

#[cfg(test)]
mod figures {
    use std::fmt::Write as _;
    use std::hint::black_box;
    use std::time::Duration;

    use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
    use hastmon_core::config::{self, NodeName};
    use hastmon_core::lease::{Ask, Kind, Verdict, Voters};
    use hastmon_core::types::{Role, State};
    use hastmon_core::wire::detail::{Detail, NodeDetail};
    use hastmon_core::wire::frame::{self, CONTROL_LIMIT, HEADER_SIZE, Header, PLAINTEXT_LIMIT, Version};
    use hastmon_core::wire::nv::List;
    use hastmon_core::wire::peer::{Heard, Said};
    use hastmon_core::wire::reply::{Entry, RemoteStatus, Reply, ResourceStatus, StatusReply, WorkerStatus};

    /// Resources of a node that has many.
    const MANY: usize = 100;

    fn list_of(message: &[u8], version: Version, limit: usize) -> List {
        let (header, body) = message.split_first_chunk::<HEADER_SIZE>().unwrap();
        let header = Header::decode(*header, &[version], limit).unwrap();
        assert_eq!(header.size, body.len());
        List::decode(body).unwrap()
    }

    fn peer_message(list: &List) -> Vec<u8> {
        frame::encode(Version::V1, list, PLAINTEXT_LIMIT).unwrap()
    }

    /// What a primary says to each other node at each heartbeat: that it runs, and that it asks for its vote again.
    fn beat() -> Said {
        let voters = Voters::new(["a", "b", "w"].map(str::to_owned)).digest();
        let ask = Ask {
            node: "a".to_owned(),
            kind: Kind::Renew,
            epoch: 7,
            hold: Duration::from_secs(4),
            round: 1234,
            voters,
            kept: false,
        };
        Said::Beat { seq: 1234, state: State::Run, voters, ask: Some(ask), shared: None, pause: None, votes_kept: 0 }
    }

    /// What the other node answers.
    fn heard() -> Heard {
        let voters = Voters::new(["a", "b", "w"].map(str::to_owned)).digest();
        Heard {
            seq: 1234,
            role: Role::Secondary,
            priority: 1,
            state: State::Stopped,
            verdict: Some(Verdict { round: 1234, highest: 7, refused: None, kept: false }),
            bound: Some("a".to_owned()),
            bound_for: Duration::from_secs(4),
            epoch: 7,
            voters,
            in_force: voters,
            no_fetch: None,
            bound_kept: false,
            waits_for_turn: false,
            pause: None,
        }
    }

    fn status_of(number: usize) -> Entry<ResourceStatus> {
        let node = |name: &str, role| NodeDetail {
            node: name.to_owned(),
            role: Some(role),
            state: Some(State::Run),
            priority: Some(1),
            connected_for: Some(Duration::from_secs(3600)),
        };
        let detail = Detail {
            node: "a".to_owned(),
            epoch: 7,
            lease_left: Some(Duration::from_secs(3)),
            votes: Some(3),
            in_reach: Some(3),
            voters: 3,
            needed: 2,
            runs_on: Some("a".to_owned()),
            nodes: vec![node("a", Role::Primary), node("b", Role::Secondary), node("w", Role::Watchdog)],
            ..Detail::default()
        };
        let remote =
            RemoteStatus { addr: "tcp4://192.0.2.2".to_owned(), state: Some("connected".to_owned()), role: None };
        let status = ResourceStatus {
            exec: "/usr/local/libexec/hastmon/web.sh".to_owned(),
            attempts_max: 5,
            remotes: vec![remote],
            role: Role::Primary,
            workerpid: 4711,
            complaints: 0,
            complaints_critical: 3,
            complaints_interval: Duration::from_secs(60),
            heartbeat: Duration::from_secs(1),
            worker: Some(WorkerStatus { state: State::Run, attempts: 0 }),
            stuck_for: None,
            lines: vec![("epoch".to_owned(), "7".to_owned()), ("lease".to_owned(), "3.0 s".to_owned())],
            detail: Some(detail),
        };
        Entry { resource: format!("r{number}"), outcome: Ok(status) }
    }

    fn codec(criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("codec");
        let (said, answer) = (beat(), heard());
        let (said_bytes, answer_bytes) = (peer_message(&said.encode()), peer_message(&answer.encode()));
        group.bench_function("a heartbeat: to bytes", |b| b.iter(|| peer_message(&black_box(&said).encode())));
        group.bench_function("a heartbeat: from bytes", |b| {
            b.iter(|| Said::decode(&list_of(black_box(&said_bytes), Version::V1, PLAINTEXT_LIMIT), "a").unwrap());
        });
        group.bench_function("its answer: to bytes", |b| b.iter(|| peer_message(&black_box(&answer).encode())));
        group.bench_function("its answer: from bytes", |b| {
            b.iter(|| Heard::decode(&list_of(black_box(&answer_bytes), Version::V1, PLAINTEXT_LIMIT)).unwrap());
        });
        group.sampling_mode(SamplingMode::Flat);
        let reply: StatusReply = Reply::Entries((0..MANY).map(status_of).collect());
        let message = |reply: &StatusReply| frame::encode(Version::V0, &reply.encode(), CONTROL_LIMIT).unwrap();
        let bytes = message(&reply);
        group.bench_function("status of 100 resources: to bytes", |b| b.iter(|| message(black_box(&reply))));
        group.bench_function("status of 100 resources: from bytes", |b| {
            b.iter(|| StatusReply::decode(&list_of(black_box(&bytes), Version::V0, CONTROL_LIMIT)).unwrap());
        });
    }

    /// A file for three nodes, as the example that is delivered, with so many resources.
    fn file(resources: usize) -> String {
        let mut text =
            "heartbeat_interval 1\ntimeout 2\nkey {\n\talgorithm SHA256\n\tsecret \"put a long random text here\"\n}\n"
                .to_owned();
        for number in 0..resources {
            writeln!(
                text,
                "resource r{number} {{\n\texec /usr/local/libexec/hastmon/web.sh\n\
                 \ton nodeA {{\n\t\tremote tcp4://192.0.2.2\n\t\tfriends tcp4://192.0.2.3\n\t\tpriority 10\n\t}}\n\
                 \ton nodeB {{\n\t\tremote tcp4://192.0.2.1\n\t\tfriends tcp4://192.0.2.3\n\t\tpriority 20\n\t}}\n\
                 \ton nodeC {{\n\t\tremote tcp4://192.0.2.1 tcp4://192.0.2.2\n\t\trole_on_start watchdog\n\t}}\n}}"
            )
            .unwrap();
        }
        text
    }

    fn configuration(criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("configuration");
        // Otherwise a hundred samples of the longer one take more than their time.
        group.sampling_mode(SamplingMode::Flat);
        let node = NodeName::new("nodeA").unwrap();
        for (name, resources) in [("1 resource", 1), ("100 resources", MANY)] {
            let text = file(resources);
            assert_eq!(config::load(&text, &node).config.unwrap().resources.len(), resources);
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(name, |b| {
                b.iter_batched(|| text.as_str(), |text| config::load(black_box(text), &node), BatchSize::SmallInput);
            });
        }
    }

    pub(super) fn main() {
        let mut criterion = Criterion::default()
            .measurement_time(Duration::from_secs(3))
            .warm_up_time(Duration::from_secs(1))
            .configure_from_args();
        codec(&mut criterion);
        configuration(&mut criterion);
    }
}
