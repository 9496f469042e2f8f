//! The configuration as a whole: every message, inheritance, recorded files, and what holds for any text.

extern crate std;

use super::params::{Kind, Name, PARAMETERS, Parameter, Place};
use super::*;
use alloc::format;
use alloc::string::ToString as _;
use proptest::collection::vec;
use proptest::prelude::*;

/// Cases of `=== title`, the text of a file, `---` and what is said about it on node `a`, or
/// on the one that the title names behind an `@`.
const MESSAGES: &str = include_str!("messages.txt");

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn rendered(text: &str, name: &str) -> String {
    let outcome = load(text, &node(name));
    let has_errors = outcome.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    assert_eq!(outcome.config.is_none(), has_errors);
    let lines: Vec<_> = outcome.diagnostics.iter().map(|diagnostic| diagnostic.render("f", text) + "\n").collect();
    lines.join("")
}

/// After a message was changed on purpose: BLESS=1 cargo test -p hastmon-core config, then read the difference.
#[test]
fn every_message_is_worded_and_placed_as_recorded() {
    let mut actual = String::new();
    for case in MESSAGES.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let host = title.split_once('@').map_or("a", |(_, host)| host);
        let text = rest.split_once("---\n").map_or(rest, |(text, _)| text);
        actual += &format!("=== {title}\n{text}---\n{}", rendered(text, host));
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/messages.txt"), &actual).unwrap();
    } else {
        for (expected, actual) in MESSAGES.split("=== ").zip(actual.split("=== ")) {
            assert_eq!(expected, actual);
        }
    }
}

/// The only configuration in a text without errors.
fn config_of(text: &str, name: &str) -> Config {
    let outcome = load(text, &node(name));
    assert_eq!(outcome.diagnostics, [], "{text}");
    outcome.config.unwrap()
}

#[test]
fn the_recorded_files_of_the_original_are_read_without_a_word_on_every_node() {
    for (text, key) in [
        (include_str!("recorded/nokey.conf"), None),
        (include_str!("recorded/errors.conf"), None),
        (include_str!("recorded/key-MD5.conf"), Some(Algorithm::Md5)),
        (include_str!("recorded/key-SHA1.conf"), Some(Algorithm::Sha1)),
        (include_str!("recorded/key-SHA256.conf"), Some(Algorithm::Sha256)),
        (include_str!("recorded/key-RIPEMD160.conf"), Some(Algorithm::Ripemd160)),
    ] {
        let [a, b, w] = ["a", "b", "w"].map(|name| config_of(text, name).resource("res").unwrap().clone());
        assert_eq!(a.remotes, ["tcp4://10.77.0.2".parse().unwrap()]);
        assert_eq!(a.friends, ["tcp4://10.77.0.3".parse().unwrap()]);
        assert_eq!(w.remotes.len(), 2);
        assert_eq!((a.priority < b.priority, w.priority), (true, DEFAULT_PRIORITY));
        for resource in [a, b, w] {
            assert_eq!(resource.exec, "/lab/res.sh");
            assert_eq!(resource.nodes, ["a", "b", "w"]);
            assert_eq!(resource.timeout, Duration::from_secs(2));
            assert_eq!(resource.heartbeat_interval, Duration::from_secs(1));
            assert_eq!(resource.complaint_interval, Duration::from_secs(60));
            assert_eq!(resource.attempts, DEFAULT_ATTEMPTS);
            let expected = key.map(|algorithm| (algorithm, format!("s3cret-for-{algorithm}")));
            let found = resource.key.as_ref().map(|key| (key.algorithm, key.secret.as_bytes()));
            assert_eq!(found, expected.as_ref().map(|(algorithm, secret)| (*algorithm, secret.as_bytes())));
        }
    }
}

#[test]
fn what_is_not_set_has_the_default_of_the_manual() {
    let config = config_of("resource r { exec /x on a { remote none } }", "a");
    assert_eq!(
        config.dump(),
        "# As node a understands it. Secrets are masked, other nodes are only named.
control uds:///var/run/hastmonctl
listen tcp4://0.0.0.0:8458
statedir STATEDIR
history 16M
realtime off
max_hooks 16

resource r {
	exec /x
	weight 0
	role_on_start init
	attempts 5
	timeout 5s
	heartbeat_interval 10s
	complaint_count 3
	complaint_interval 1m
	lease 30s
	start_timeout 1m
	stop_timeout 10s
	status_timeout 10s
	hook_timeout 30s
	fence_timeout 1m
	on_stop_failure log
	on a {
		remote none
		priority 100
	}
}
"
        .replace("STATEDIR", if cfg!(target_os = "freebsd") { "/var/db/hastmon" } else { "/var/lib/hastmon" })
    );
}

/// The resource in a file with these settings around it, and what is said about them.
fn timed(settings: &str) -> (Resource, Vec<String>) {
    let outcome = load(&format!("{settings}\nresource r {{ exec /x on a {{ remote b }} }}"), &node("a"));
    let told = outcome.diagnostics.into_iter().map(|found| found.message).collect();
    (outcome.config.unwrap().resources.remove(0), told)
}

#[test]
fn lease_and_stop_timeout_follow_the_heartbeat() {
    for (settings, lease_ms, stop_ms) in [
        ("", 30_000, 10_000),
        ("heartbeat_interval 2", 6_000, 2_000),
        ("heartbeat_interval 25ms timeout 25ms", 75, 25),
        ("heartbeat_interval 2 complaint_count 0", 4_000, 2_000),
        ("heartbeat_interval 2 complaint_count 1", 4_000, 2_000),
        ("heartbeat_interval 2 complaint_count 5 stop_timeout 7", 10_000, 7_000),
        ("heartbeat_interval 2 lease 10 complaint_count 7", 10_000, 2_000),
    ] {
        let (resource, told) = timed(settings);
        assert_eq!(resource.lease, Duration::from_millis(lease_ms), "{settings}");
        assert_eq!(resource.stop_timeout, Duration::from_millis(stop_ms), "{settings}");
        // `timeout` is 5 s.
        assert_eq!(told.len(), usize::from(lease_ms == 4_000), "{settings}: {told:?}");
    }
}

#[test]
fn a_file_of_the_original_with_the_longest_waits_is_not_refused() {
    let (resource, told) =
        timed("heartbeat_interval 86400 complaint_count 10000 timeout 86400 complaint_interval 2592000");
    assert_eq!(resource.lease + resource.stop_timeout, Duration::from_secs(2_592_000 * 100 / 101));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("complaint_interval 720h is shorter than"), "{told:?}");
}

#[test]
fn a_heartbeat_of_a_part_of_a_second_is_shown_as_it_was_written() {
    let config = config_of(
        "heartbeat_interval 25ms timeout 40ms complaint_interval 100ms lease 60ms stop_timeout 5ms
        resource r { exec /x on a { remote b } }",
        "a",
    );
    let dump = config.dump();
    for line in
        ["heartbeat_interval 25ms", "timeout 40ms", "complaint_interval 100ms", "lease 60ms", "stop_timeout 5ms"]
    {
        assert!(dump.contains(&format!("\t{line}\n")), "{line}: {dump}");
    }
    assert_eq!(load(&dump, &node("a")).config.map(unshared), Some(unshared(config)));
}

/// A dump says of this node alone what it means: what its file says for all nodes cannot be told from it.
fn unshared(mut config: Config) -> Config {
    config.resources.iter_mut().for_each(|resource| resource.shared = Shared::default());
    config
}

#[test]
fn the_daemon_and_the_script_that_fences_are_set_where_they_may_be() {
    let config = config_of(
        "statedir /var/state realtime off fence /top on_stop_failure reboot
        on a { realtime on statedir \"/own state\" } on b { statedir /other }
        resource r { exec /x fence /middle on a { remote b fence /own on_stop_failure fence } }
        resource s { exec /x on a { remote b } }",
        "a",
    );
    assert_eq!((config.statedir.as_str(), config.realtime), ("/own state", true));
    let fences = |at: usize| (config.resources[at].fence.as_deref(), config.resources[at].on_stop_failure);
    assert_eq!(fences(0), (Some("/own"), StopFailure::Fence));
    assert_eq!(fences(1), (Some("/top"), StopFailure::Reboot));
    assert_eq!(load(&config.dump(), &node("a")).config.map(unshared), Some(unshared(config)));
}

#[test]
fn what_tells_of_events_is_set_where_it_may_be_and_a_metrics_address_is_checked() {
    let config = config_of(
        "history 1G notify /top metrics 9459 on a { history 512k }
        resource r { exec /x on a { remote b notify /own } }
        resource s { exec /x on a { remote b } }",
        "a",
    );
    assert_eq!((config.history_bytes, config.notify.as_deref()), (512 << 10, Some("/top")));
    assert_eq!(config.metrics.as_ref().map(|address| address.port), Some(9459));
    let notified: Vec<_> = config.resources.iter().map(|resource| resource.notify.as_deref()).collect();
    assert_eq!(notified, [Some("/own"), Some("/top")]);
    assert_eq!(load(&config.dump(), &node("a")).config, Some(config));
    let told = rendered("metrics [::1 resource r { exec /x on a { remote b } }", "a");
    assert!(told.contains("is not an address") && told.contains("without a port it is 9458"), "{told}");
}

/// A file for node `a` in which a parameter is set in some places, to the value of each, and nothing else that matters.
fn file_with(parameter: &Parameter, values: &[(Place, String)], inner_first: bool) -> String {
    let set = |place| {
        let value = values.iter().find(|(set, _)| *set == place);
        value.map_or(String::new(), |(_, value)| format!("{} {value}\n", parameter.word))
    };
    let exec = if parameter.name == Name::Exec { "" } else { "exec /base\n" };
    let remote = if parameter.name == Name::Remote { "" } else { "remote base\n" };
    let exec = match parameter.name {
        Name::OnStopFailure => "exec /base fence /base\n",
        Name::StopTimeout => "exec /base lease 1h\n",
        _ => exec,
    };
    let own = format!("on a {{ {remote}{} }}\non b {{ remote none }}\n", set(Place::ResourceNode));
    let outer = format!("on a {{\n{} }}\non b {{ }}\n", set(Place::TopNode));
    let inner = set(Place::Resource);
    if inner_first {
        let top = set(Place::Top);
        format!("resource r {{ {own}{inner}{exec} }}\n{outer}{top}")
    } else {
        let top = set(Place::Top);
        format!("{top}{outer}resource r {{ {exec}{inner}{own} }}\n")
    }
}

/// A different value for each of the four places, as the dump writes it.
fn sample(kind: Kind, index: usize) -> String {
    match kind {
        Kind::Path => format!("/script{index}"),
        Kind::Control => format!("uds:///socket{index}"),
        Kind::Address => format!("host{index}"),
        Kind::MetricsAddress => format!("192.0.2.{}:9458", 1 + index),
        Kind::Size { .. } => format!("{}M", 1 + index),
        Kind::Addresses { .. } => format!("host{index} other{index}:1"),
        Kind::Duration { .. } => format!("{}s", 61 + index),
        Kind::Count { .. } => format!("{}", 1 + index),
        Kind::Priority => format!("{index}"),
        Kind::Weight => format!("-{}", 1 + index),
        Kind::Role => Role::ALL[index].to_string(),
        Kind::Switch => ["off", "on"][index % 2].to_owned(),
        Kind::StopFailure => StopFailure::ALL[index % 3].as_str().to_owned(),
        Kind::Algorithm | Kind::Secret | Kind::Section { .. } => unreachable!(),
    }
}

#[test]
fn the_innermost_section_of_this_node_wins_for_every_parameter_wherever_it_stands_in_the_file() {
    let inner_to_outer = [Place::ResourceNode, Place::Resource, Place::TopNode, Place::Top];
    for parameter in PARAMETERS
        .iter()
        .filter(|parameter| parameter.is_allowed(Place::ResourceNode) || parameter.is_allowed(Place::Top))
    {
        if matches!(parameter.kind, Kind::Section { .. }) {
            continue;
        }
        for chosen in 1_u8..16 {
            let values: Vec<_> = inner_to_outer
                .into_iter()
                .enumerate()
                .filter(|(index, place)| chosen & (1 << index) != 0 && parameter.is_allowed(*place))
                .map(|(index, place)| (place, sample(parameter.kind, index)))
                .collect();
            let Some((_, expected)) = values.first() else { continue };
            for inner_first in [true, false] {
                let text = file_with(parameter, &values, inner_first);
                let outcome = load(&text, &node("a"));
                let config = outcome.config.unwrap_or_else(|| panic!("{text}\n{}", rendered(&text, "a")));
                let found = dump::value(&config.resources[0], parameter.name)
                    .or_else(|| dump::top_value(&config, parameter.name));
                assert_eq!(found.as_ref(), Some(expected), "{text}");
            }
        }
    }
}

#[test]
fn friends_of_all_resources_are_those_of_the_file_and_each_resource_inherits_them() {
    let config = config_of(
        "friends f\non a { friends g }\nresource r { exec /x on a { remote b friends h } }\nresource s { exec /x on a { remote b } }",
        "a",
    );
    let texts = |list: &[Address]| list.iter().map(|address| address.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&config.friends), ["g"]);
    assert_eq!(texts(&config.resources[0].friends), ["h"]);
    assert_eq!(texts(&config.resources[1].friends), ["g"]);
}

#[test]
fn the_key_of_a_resource_wins_over_that_of_the_file() {
    let config = config_of(
        "resource r { exec /x key { secret \"a\\\"b\" algorithm SHA1 } on a { remote b } }
        resource s { exec /x on a { remote b } }
        key { algorithm SHA256 secret outer }",
        "a",
    );
    let keys: Vec<_> = config.resources.iter().filter_map(|resource| resource.key.as_ref()).collect();
    assert_eq!((keys[0].algorithm, keys[0].secret.as_bytes()), (Algorithm::Sha1, &b"a\"b"[..]));
    assert_eq!((keys[1].algorithm, keys[1].secret.as_bytes()), (Algorithm::Sha256, &b"outer"[..]));
    assert!(config.dump().contains("\tkey { algorithm SHA1 secret \"********\" }\n"));
}

#[test]
fn a_node_is_known_by_its_full_name_or_else_by_the_part_before_the_first_dot() {
    let text = "resource r { exec /x on a { remote short } on a.b { remote full } on a.c { remote none } }";
    for (name, remote) in
        [("a", Some("short")), ("a.x", Some("short")), ("a.b", Some("full")), ("b", None), ("a.b.c", Some("short"))]
    {
        let config = load(text, &node(name)).config;
        assert_eq!(config.as_ref().map(|config| config.resources[0].remotes[0].text.as_str()), remote, "{name}");
        if let Some(config) = config {
            assert_eq!(config.node, name);
            assert_eq!(load(&config.dump(), &node(name)).config, Some(config));
        }
    }
}

#[test]
fn what_cannot_name_a_node_is_refused() {
    for name in ["", "a\nb", &"a".repeat(MAX_NAME_LEN + 1)] {
        assert_eq!(NodeName::new(name), Err(NotANodeName));
    }
    assert_eq!(NodeName::new("a.example.org").map(|name| name.as_str().to_owned()), Ok("a.example.org".to_owned()));
}

#[test]
fn words_that_mean_something_can_be_names_and_in_quotes_values_too() {
    let text = "resource exec { exec /x on on\n{ remote \"on\" b friends \"exec\" } }resource\n\"on\"{exec /y on \"on\"{remote b}}";
    let config = config_of(text, "on");
    let names: Vec<_> = config.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["exec", "on"]);
    assert_eq!(config.resource("exec").unwrap().remotes[0].text, "on");
    assert_eq!(load(&config.dump(), &node("on")).config.map(unshared), Some(unshared(config)));
}

#[test]
fn every_limit_holds_and_what_is_just_inside_is_taken() {
    let list = |count: usize| (0..count).map(|index| format!(" h{index}")).collect::<String>();
    let errors =
        |text: &str| load(text, &node("a")).diagnostics.iter().map(|found| found.message.clone()).collect::<Vec<_>>();
    let remotes = |count| format!("resource r {{ exec /x on a {{ remote{} }} }}", list(count));
    let friends = |count| format!("friends{}\n{}", list(count), remotes(1));
    let nodes = |count: usize| (1..count).map(|index| format!("on n{index} {{ remote a }}")).collect::<String>();
    let nodes = |count| format!("resource r {{ exec /x on a {{ remote none }} {} }}", nodes(count));
    let named = |len| format!("resource {} {{ exec /x on a {{ remote b }} }}", "n".repeat(len));
    let exec = |len| format!("resource r {{ exec /{} on a {{ remote b }} }}", "x".repeat(len - 1));
    let control = |len| format!("control /{}\n{}", "x".repeat(len - 1), remotes(1));
    let many = |count: usize| {
        (0..count).map(|index| format!("resource r{index}{{on a{{remote b}}}}")).collect::<String>() + " exec /x"
    };
    let long = |len: usize| remotes(1) + &" ".repeat(len - remotes(1).len());
    type Case<'a> = (&'a dyn Fn(usize) -> String, usize, &'a str);
    let cases: [Case<'_>; 8] = [
        (&remotes, MAX_REMOTES, "`remote` lists more than 64 addresses"),
        (&friends, MAX_FRIENDS, "`friends` lists more than 256 addresses"),
        (&nodes, MAX_NODES, "there are more than 65 sections for nodes here"),
        (&named, MAX_NAME_LEN, "the name has more than 255 bytes"),
        (&exec, MAX_PATH_LEN, "the path has more than 1023 bytes"),
        (&control, MAX_SOCKET_PATH_LEN, "the path has more than 103 bytes"),
        (&many, MAX_RESOURCES, "there are more than 10000 resources"),
        (&long, MAX_FILE_LEN, "the file has more than 8192 KiB"),
    ];
    for (text, limit, message) in cases {
        assert_eq!(errors(&text(limit)), [""; 0]);
        assert_eq!(errors(&text(limit + 1)), [message]);
    }
}

#[test]
fn after_enough_errors_the_rest_is_only_counted() {
    let text = "timeout x\n".repeat(MAX_SHOWN + 2);
    let outcome = load(&text, &node("a"));
    let errors = outcome.diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
    assert_eq!(errors, MAX_SHOWN + 1);
    let messages: Vec<_> = outcome.diagnostics.iter().rev().take(2).map(|found| found.message.as_str()).collect();
    assert_eq!(messages, ["2 more warnings are not shown", "2 more errors are not shown"]);
    assert_eq!(outcome.diagnostics.last().unwrap().render("f", &text), "warning: 2 more warnings are not shown\n--> f");
}

#[test]
fn a_hostile_text_costs_no_stack_and_little_time() {
    for piece in [
        "{",
        "}",
        "{}",
        "\"",
        "\"x\" ",
        "x ",
        "timout\n",
        "abcd\n",
        "$",
        "on a{",
        "on a{}",
        "key{",
        "key{}",
        "resource r{",
        "secret x ",
        "remote none\n",
    ] {
        let text = piece.repeat(20_000 / piece.len());
        for start in ["", "remote ", "resource r { on a { remote b ", "key {"] {
            let text = format!("{start}{text}");
            let outcome = load(&text, &node("a"));
            assert!(outcome.diagnostics.len() <= 2 * (MAX_SHOWN + 1));
            let _ = outcome.diagnostics.first().map(|found| found.render("f", &text));
        }
    }
}

#[test]
fn the_worker_gets_its_resource_whole() {
    let config = config_of(include_str!("recorded/key-SHA256.conf"), "b");
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
    assert!(!format!("{config:?}").contains("s3cret"));
}

/// The configuration as it is when its secrets are masked.
fn masked(mut config: Config) -> Config {
    for key in config.resources.iter_mut().filter_map(|resource| resource.key.as_mut()) {
        key.secret = Secret::new(String::from("********").into());
    }
    config
}

/// A string in quotes that says something, and in which anything may stand.
fn any_string() -> impl Strategy<Value = String> {
    r#"([^"\\\p{C}]|\\"|\\\\){1,20}"#.prop_map(|text| format!("\"{text}\""))
}

fn any_value(parameter: &Parameter) -> BoxedStrategy<String> {
    let address =
        prop_oneof!["(tcp4?://)?h[a-z]{1,5}(:[1-9][0-9]{0,3})?", "tcp6://\\[::[1-9a-f]\\]", "\"(exec|on|key)\""];
    match parameter.kind {
        // Whatever the others are, a lease must not be too short nor too long.
        Kind::Duration { .. } if parameter.name == Name::Lease => "2[0-3]h|2[0-9]{3}m".boxed(),
        Kind::Duration { .. } if parameter.name == Name::HeartbeatInterval => {
            "[1-9][0-9]?(\\.5)?(s|m)?|[1-9][0-9]{1,6}ms".boxed()
        }
        // It must not be longer than the shortest lease.
        Kind::Duration { .. } if parameter.name == Name::StopTimeout => "1?[1-9]ms|20ms".boxed(),
        Kind::Path => prop_oneof!["/[a-z/.]{1,9}", any_string().prop_map(|text| text.replacen('"', "\"/", 1))].boxed(),
        Kind::Control => "(uds://|unix://)?/[a-z/.]{1,9}".boxed(),
        Kind::Address => address.boxed(),
        Kind::Addresses { most } if most == MAX_REMOTES => {
            prop_oneof![Just("none".into()), vec(address, 1..5).prop_map(|list| list.join("\n"))].boxed()
        }
        Kind::Addresses { .. } => vec(address, 1..5).prop_map(|list| list.join(" ")).boxed(),
        Kind::Duration { .. } => "[1-9][0-9]{0,2}(\\.5)?(s|m)?|[1-9][0-9]{0,8}ms".boxed(),
        Kind::MetricsAddress => prop_oneof![
            "(tcp4://)?127\\.0\\.0\\.[1-9](:[1-9][0-9]{0,3})?",
            ":?[1-9][0-9]{0,3}",
            "tcp6://\\[::[1-9a-f]\\]"
        ]
        .boxed(),
        Kind::Size { .. } => "0|[1-9][0-9]{2,4}[kK]|[1-9][0-9]{0,2}[mM]|[1-9][gG]".boxed(),
        Kind::Count { least, most } => (least..=most).prop_map(|number| number.to_string()).boxed(),
        Kind::Priority => (0..=i32::MAX).prop_map(|number| number.to_string()).boxed(),
        Kind::Weight => (-MAX_WEIGHT..=MAX_WEIGHT).prop_map(|number| number.to_string()).boxed(),
        Kind::Role => proptest::sample::select(&Role::ALL[..]).prop_map(|role| role.to_string()).boxed(),
        Kind::Switch => proptest::sample::select(&["on", "off", "\"on\""][..]).prop_map(str::to_owned).boxed(),
        Kind::StopFailure => {
            proptest::sample::select(&StopFailure::ALL[..]).prop_map(|what| what.as_str().to_owned()).boxed()
        }
        Kind::Algorithm => proptest::sample::select(&Algorithm::ALL[..]).prop_map(|name| name.to_string()).boxed(),
        Kind::Secret => any_string().boxed(),
        Kind::Section { .. } => Just(String::new()).boxed(),
    }
}

/// Some of the parameters that may stand in a place, and all of those that must.
fn any_settings(place: Place, needed: &'static [Name]) -> impl Strategy<Value = String> {
    let allowed = PARAMETERS
        .iter()
        .filter(|parameter| parameter.is_allowed(place) && !matches!(parameter.kind, Kind::Section { .. }));
    let lines: Vec<_> = allowed
        .map(|parameter| {
            let set = needed.contains(&parameter.name);
            let line = any_value(parameter).prop_map(|value| format!("{} {value}\n", parameter.word));
            if set { line.boxed() } else { prop_oneof![Just(String::new()), line].boxed() }
        })
        .collect();
    lines.prop_shuffle().prop_map(|lines| lines.join(""))
}

fn any_block(head: &'static str, place: Place, needed: &'static [Name]) -> impl Strategy<Value = String> {
    any_settings(place, needed).prop_map(move |settings| format!("{head} {{\n{settings}}}\n"))
}

/// A file without an error on node `a`.
fn any_file() -> impl Strategy<Value = String> {
    let key = || prop_oneof![Just(String::new()), any_block("key", Place::Key, &[Name::Algorithm, Name::Secret])];
    let resource = (
        any_string(),
        any_settings(Place::Resource, &[Name::Exec, Name::Fence]),
        key(),
        any_block("on a", Place::ResourceNode, &[Name::Remote]),
        any_block("on \"b c\"", Place::ResourceNode, &[Name::Remote]),
    )
        .prop_map(|(name, settings, key, a, b)| (name, [settings, key, a, b].concat()));
    let resources = vec(resource, 0..4).prop_map(|list| {
        let named = list.iter().enumerate().map(|(index, (name, body))| {
            format!("resource {} {{\n{body}}}\n", name.replacen('"', &format!("\"{index}"), 1))
        });
        named.collect::<String>()
    });
    (
        any_settings(Place::Top, &[]),
        key(),
        any_block("on a", Place::TopNode, &[]),
        any_block("on b", Place::TopNode, &[]),
        resources,
    )
        .prop_map(|(settings, key, a, b, resources)| [resources, settings, key, a, b].concat())
}

/// Pieces of files in any order.
fn any_soup(strings: bool) -> impl Strategy<Value = String> {
    let mut pieces: Vec<&str> = PARAMETERS.iter().map(|parameter| parameter.word).collect();
    pieces.extend([
        "{",
        "}",
        "{",
        "}",
        "\n",
        "\n",
        "a",
        "b",
        "5",
        "-1",
        "/x",
        "none",
        "remte",
        "tcp4://h:1",
        "$",
        "\u{a0}",
        "all",
    ]);
    pieces.extend([" secret hunter2 ", "key { secret hunter2 ", "on a {", "resource r {"]);
    if strings {
        pieces.extend(["\"", "\\", "\"x\"", "\"\\\"\""]);
    }
    vec((proptest::sample::select(pieces), proptest::sample::select(&["", " ", " ", " "][..])), 0..60)
        .prop_map(|pieces| pieces.into_iter().map(|(piece, blank)| [piece, blank].concat()).collect())
}

/// What holds for any text.
fn check_any(text: &str) -> String {
    let outcome = load(text, &node("a"));
    for diagnostic in &outcome.diagnostics {
        assert!(text.get(diagnostic.span.clone()).is_some(), "{diagnostic:?}");
    }
    if let Some(config) = outcome.config {
        assert_eq!(load(&config.dump(), &node("a")).config, Some(masked(config)));
    }
    rendered(text, "a")
}

proptest! {
    #[test]
    fn any_text_gives_a_configuration_or_an_error(text in any::<String>()) {
        check_any(&text);
    }

    #[test]
    fn any_pieces_of_files_give_a_configuration_or_an_error(text in any_soup(true)) {
        check_any(&text);
    }

    #[test]
    fn no_secret_is_shown_whatever_is_wrong(text in any_soup(false)) {
        prop_assert!(!check_any(&text).contains("hunter2"));
    }

    #[test]
    fn a_dump_reads_as_what_was_dumped(text in any_file()) {
        let outcome = load(&text, &node("a"));
        let config = outcome.config.ok_or_else(|| TestCaseError::fail(rendered(&text, "a")))?;
        let dump = config.dump();
        let again = load(&dump, &node("a"));
        prop_assert!(again.diagnostics.iter().all(|found| found.severity == Severity::Warning), "{}", rendered(&dump, "a"));
        let again = again.config.unwrap_or_else(|| config.clone());
        prop_assert_eq!(unshared(again.clone()), unshared(masked(config)));
        prop_assert_eq!(again.dump(), dump);
    }
}
