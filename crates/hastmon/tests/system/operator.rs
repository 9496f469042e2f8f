//! What tells an operator what happens and why: status for people and for programs, explain, check, test-exec, completion.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::support::lab::{self, Lab, Output, Plan, run};
use crate::support::time::{wait_for, wait_some};

const REFUSED: i32 = 1;
const CONFIG: i32 = 78;
const SCHEMA: &str = include_str!("../../../../docs/status.schema.json");

fn plan(nodes: &[&str]) -> Plan {
    Plan::new(nodes).lease().set("lease", "5").set("stop_timeout", "5")
}

fn cluster() -> Lab {
    let lab = plan(&["a", "b", "w"]).loopback();
    lab.run_standard();
    lab
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// As much of JSON Schema as the schema of `status` uses; a word that this does not know is an error.
fn violation(schema: &Value, value: &Value, place: &str) -> Option<String> {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |name: &Value| name == kind || (name == "number" && kind == "integer");
    for (word, rule) in schema.as_object().unwrap() {
        let broken = match word.as_str() {
            "$schema" | "title" | "description" => None,
            "type" => {
                let is_right = rule.as_array().map_or_else(|| fits(rule), |kinds| kinds.iter().any(fits));
                (!is_right).then(|| format!("{place}: {kind} is not {rule}"))
            }
            "const" => (rule != value).then(|| format!("{place}: {value} is not {rule}")),
            "enum" => (!rule.as_array().unwrap().contains(value)).then(|| format!("{place}: {value} not in {rule}")),
            "oneOf" => {
                let found: Vec<_> = rule.as_array().unwrap().iter().map(|one| violation(one, value, place)).collect();
                (found.iter().filter(|found| found.is_none()).count() != 1).then(|| format!("{found:?}"))
            }
            "required" => rule.as_array().unwrap().iter().find_map(|name| {
                let object = value.as_object()?;
                (!object.contains_key(name.as_str().unwrap())).then(|| format!("{place}: no {name}"))
            }),
            "additionalProperties" => value.as_object().filter(|_| *rule == Value::Bool(false)).and_then(|object| {
                let known = schema["properties"].as_object().unwrap();
                object.keys().find(|name| !known.contains_key(*name)).map(|name| format!("{place}: {name} is unknown"))
            }),
            "properties" => rule.as_object().unwrap().iter().find_map(|(name, rule)| {
                value.get(name).and_then(|value| violation(rule, value, &format!("{place}.{name}")))
            }),
            "items" => value.as_array().and_then(|items| {
                items.iter().enumerate().find_map(|(at, item)| violation(rule, item, &format!("{place}[{at}]")))
            }),
            other => Some(format!("{place}: the schema has {other}, which the test does not know")),
        };
        if broken.is_some() {
            return broken;
        }
    }
    None
}

#[test]
fn status_for_programs_keeps_to_its_schema_in_every_role() {
    let lab = cluster();
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    wait_for("all are in reach", || json(&lab.ctl("a", &["status", "--json"]))["resources"][0]["votes"] == 3);
    for (node, role) in [("a", "primary"), ("b", "secondary"), ("w", "watchdog")] {
        let value = json(&lab.ctl(node, &["status", "--json"]));
        assert_eq!(violation(&schema, &value, "status"), None, "{value:#}");
        let resource = &value["resources"][0];
        // All members that the schema has are there.
        let known = schema["properties"]["resources"]["items"]["oneOf"][0]["properties"].as_object().unwrap();
        assert_eq!(resource.as_object().unwrap().len(), known.len(), "{value:#}");
        assert_eq!((resource["role"].as_str(), resource["node"].as_str()), (Some(role), Some(node)), "{value:#}");
        wait_for("it knows who runs it", || {
            json(&lab.ctl(node, &["status", "--json"]))["resources"][0]["runs_on"] == "a"
        });
    }
    lab.role("b", "init");
    let output = lab.ctl("b", &["status", "--json", "res", "nosuch"]);
    assert_eq!((output.code, violation(&schema, &json(&output), "status")), (REFUSED, None), "{output:?}");
    assert_eq!(json(&output)["resources"][1]["error"], 1);
    let wrong = serde_json::json!({ "schema": 2, "resources": [] });
    assert!(violation(&schema, &wrong, "status").is_some(), "the test sees a violation");
}

/// `status` on a terminal that `script` makes.
fn on_terminal(lab: &Lab, node: &str, environment: &str) -> String {
    let command =
        format!("{environment} {} status -c {} -n {node}", lab::hastmonctl().display(), lab.config().display());
    let output = run(Command::new("script").args(["-qec", &command, "/dev/null"]));
    assert_eq!(output.code, 0, "{output:?}");
    output.stdout.replace('\r', "")
}

#[test]
fn only_a_terminal_gets_a_summary_and_colours_never_say_more_than_words() {
    let lab = cluster();
    let piped = lab.ctl("a", &["status"]).stdout;
    assert!(piped.starts_with("res:\n  role: primary\n") && !piped.contains('\u{1b}'), "{piped}");
    wait_for("all is well", || {
        on_terminal(&lab, "a", "env -u NO_COLOR TERM=xterm").starts_with("1 of 1 resource runs\n\n")
    });
    for node in ["b", "w"] {
        lab.power_off(node);
    }
    wait_for("it is seen", || on_terminal(&lab, "a", "env NO_COLOR=1 TERM=xterm").contains("1 of 3 votes"));
    let coloured = wait_some("it has stopped", || {
        Some(on_terminal(&lab, "a", "env -u NO_COLOR TERM=xterm"))
            .filter(|text| text.contains("no primary, 1 of 3 votes"))
    });
    assert!(coloured.starts_with("0 of 1 resource runs; \u{1b}[31mres: no primary, 1 of 3 votes"), "{coloured:?}");
    for environment in ["env NO_COLOR=1 TERM=xterm", "env -u NO_COLOR TERM=dumb"] {
        let plain = on_terminal(&lab, "a", environment);
        assert!(plain.starts_with("0 of 1 resource runs; res: no primary, 1 of 3 votes"), "{plain:?}");
        assert!(!plain.contains('\u{1b}') && plain.contains("  ! 1 of 3 votes\n"), "{plain:?}");
    }
}

#[track_caller]
fn explains(lab: &Lab, node: &str, part: &str) {
    wait_for(&format!("{node} explains {part:?}"), || {
        let output = lab.ctl(node, &["explain", "res"]);
        assert_eq!(output.code, 0, "{output:?}");
        output.stdout.split_whitespace().collect::<Vec<_>>().join(" ").contains(part)
    });
}

#[test]
fn explain_says_why_on_every_node_and_what_follows_when_one_is_lost() {
    let lab = cluster();
    explains(&lab, "a", "res runs on a, which is primary, and holds the lease: epoch");
    explains(&lab, "a", "w is its only watchdog that a hears: without w no takeover");
    for node in ["b", "w"] {
        explains(&lab, node, "res runs on a, which is primary, as a says.");
    }
    explains(&lab, "b", "b has heard 0 complaints and needs 4 within 60s: 4 more");
    explains(&lab, "b", "as long as it is, complaints make no difference");
    lab.power_off("w");
    explains(&lab, "b", "No watchdog is connected to b");
    lab.power_off("a");
    explains(&lab, "b", "No takeover is possible: 1 of 3 nodes are in reach, and 2 are needed.");
    let output = lab.ctl("b", &["explain", "nosuch"]);
    assert!(output.code == REFUSED && output.stderr.contains("no resource nosuch"), "{output:?}");
}

#[test]
fn a_pause_is_said_first_wherever_an_operator_looks() {
    let lab = cluster();
    wait_for("all votes are there", || json(&lab.ctl("a", &["status", "--json"]))["resources"][0]["votes"] == 3);
    let output = lab.ctl("w", &["pause", "--for", "1h", "res"]);
    assert_eq!(output.code, 0, "{output:?}");
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    for node in ["a", "b", "w"] {
        let value = json(&lab.ctl(node, &["status", "--json"]));
        assert_eq!(violation(&schema, &value, "status"), None, "{value:#}");
        let resource = &value["resources"][0];
        assert_eq!(resource["pause"]["node"], "w", "{value:#}");
        assert!(resource["pause"]["seconds_left"].as_f64().is_some_and(|left| left > 3000.0), "{value:#}");
        assert_eq!(resource["votes_kept_for"], serde_json::json!({ "node": "a", "votes": 3 }), "{value:#}");
        assert_eq!((&resource["runs_on"], &resource["lease_kept"]), (&"a".into(), &Value::Bool(node == "a")));
        let text = lab.ctl(node, &["explain", "res"]).stdout;
        assert!(text.starts_with("Paused:\n  - res is paused by ") && text.contains("hastmonctl resume res"), "{text}");
        let text = on_terminal(&lab, node, "env NO_COLOR=1 TERM=xterm");
        assert!(
            text.starts_with("1 of 1 resource runs; res: paused by ") && text.contains("\n  ! paused by "),
            "{text}"
        );
    }
    let output = lab.ctl("b", &["check"]);
    assert!(output.code == 0 && output.stdout.contains("warning: res: paused by "), "{output:?}");
    assert_eq!(lab.ctl("b", &["resume", "res"]).code, 0);
    wait_for("nothing is left of it", || {
        let resource = &json(&lab.ctl("a", &["status", "--json"]))["resources"][0];
        resource["pause"].is_null() && resource["lease_kept"] == false
    });
    assert!(lab.ctl("a", &["explain", "res"]).stdout.starts_with("Why:"));
}

#[test]
fn a_node_with_another_file_is_named_with_the_setting_and_secrets_are_not() {
    let lab = plan(&["a", "b", "w"]).set("key", "{ algorithm SHA256 secret \"a secret for tests only\" }").loopback();
    let standard = fs::read_to_string(lab.config()).unwrap();
    lab.start("a");
    lab.write_config(&standard.replace("complaint_interval 60", "complaint_interval 90"));
    lab.start("b");
    lab.write_config(&standard);
    lab.start("w");
    lab.standard_roles();
    wait_for("a names it", || {
        lab.ctl("a", &["status"]).stdout.contains("  configuration: complaint_interval is 1m here and 90s on b\n")
    });
    let output = lab.ctl("a", &["check"]);
    assert!(
        output.stdout.contains("res: b runs another file: complaint_interval is 90s there and 1m here"),
        "{output:?}"
    );
    assert!(!output.stdout.contains("secret for tests"), "{output:?}");
    assert_eq!(lab.ctl("b", &["reload"]).code, 0);
    wait_for("a knows that it is mended", || !lab.ctl("a", &["status"]).stdout.contains("configuration:"));
}

#[test]
fn check_needs_no_daemon_and_says_what_follows_from_the_settings() {
    let lab = plan(&["a", "b", "w"]).on("w", "role_on_start watchdog").loopback();
    fs::create_dir_all(lab.state_dir("a")).unwrap();
    let output = lab.ctl("a", &["check"]);
    assert_eq!(output.code, 0, "{output:?}");
    // 4 complaints, a heartbeat apart and a sixteenth of one; (5 s + 5 s) x 1.01.
    for part in [
        "noticed after       4.06 s",
        "power loss: started elsewhere after     10.10 s",
        "3 (a b w); 2 needed, any 1 may fail",
        "warning: res: w is the only watchdog",
        "No daemon answers here",
        "\n0 errors, ",
    ] {
        assert!(output.stdout.contains(part), "{part}: {}", output.stdout);
    }
    assert!(!output.stdout.contains("max_hooks"), "nothing ever waits: {}", output.stdout);
    let value = json(&lab.ctl("a", &["check", "--json"]));
    assert_eq!(value["max_hooks"], 16);
    assert_eq!(
        (&value["schema"], &value["resources"][0]["watchdogs"][0]),
        (&Value::from(1), &Value::from("w")),
        "{value:#}"
    );
    assert_eq!(value["resources"][0]["takeover_after_power_loss_seconds"], 10.1);
}

#[test]
fn check_finds_what_is_wrong_with_scripts_and_files() {
    let lab = plan(&["a", "b", "w"]).loopback();
    let script = lab.script("a");
    let found = |part: &str, arguments: &[&str]| {
        let output = lab.ctl("a", arguments);
        assert_eq!(output.code, CONFIG, "{part}: {output:?}");
        assert!(output.stdout.contains(part), "{part}: {}", output.stdout);
    };
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
    found("is not executable: chmod +x", &["check"]);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o757)).unwrap();
    found("may be changed by everybody", &["check"]);
    let good = fs::read_to_string(&script).unwrap();
    fs::write(&script, "#!/bin/sh\necho cannot tell\nexit 7\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(lab.ctl("a", &["check"]).code, 0, "nothing is run unless that is asked for");
    found("exit 7 after", &["check", "--run"]);
    found("    | cannot tell", &["check", "--run"]);
    fs::write(&script, good).unwrap();
    assert_eq!(lab.ctl("a", &["check", "--run"]).code, 0);
    fs::remove_file(&script).unwrap();
    found("No such file", &["check"]);
    lab.write_config("nonsense");
    assert_eq!(lab.ctl("a", &["check"]).code, CONFIG);
}

#[test]
fn a_script_that_keeps_the_contract_passes_and_leaves_nothing_running() {
    let lab = plan(&["a", "b", "w"]).loopback();
    lab.start("a");
    let output = lab.ctl("a", &["test-exec", "res"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.ends_with("The script keeps the contract.\n"), "{output:?}");
    assert_eq!((lab.count("a", "start res"), lab.count("a", "stop res"), lab.running("a")), (2, 2, 0));
}

#[test]
fn what_breaks_the_contract_is_told_with_the_output_of_the_script() {
    let lab = plan(&["a"]).set("hook_timeout", "300ms").loopback();
    let body = |text: &str| {
        fs::write(lab.script("a"), format!("#!/bin/sh\nup={}/up\n{text}\n", lab.dir().display())).unwrap();
        lab.ctl("a", &["test-exec", "--yes", "res"])
    };
    let cases = [
        (
            "case $1 in start) [ -e $up ] && echo it runs already && exit 3; touch $up ;; stop) rm -f $up ;; status) [ -e $up ] || exit 1 ;; esac; exit 0",
            &["BREAKS  start: exit 3", "        | it runs already", "1 place."][..],
        ),
        (
            "case $1 in start) touch $up ;; stop) rm $up || exit 1 ;; status) [ -e $up ] || exit 1 ;; *) sleep 60 ;; esac; exit 0",
            &["BREAKS  stop: exit 1", "BREAKS  no-such-event: did not end in its time limit", "2 places."],
        ),
        (
            "case $1 in start) touch $up; sleep 5 & ;; stop) rm -f $up ;; status) [ -e $up ] || exit 1 ;; esac; exit 0",
            &["what it has left running holds its output open"],
        ),
        ("exit 0", &["BREAKS  status: exit 0", "It was not started"]),
    ];
    for (text, parts) in cases {
        let output = body(text);
        assert_eq!(output.code, REFUSED, "{text}: {output:?}");
        for part in parts {
            assert!(output.stdout.contains(part), "{part}: {}", output.stdout);
        }
    }
}

#[test]
fn a_script_is_not_tried_while_the_resource_may_run() {
    let lab = cluster();
    for (node, part) in [("a", "res runs on a"), ("b", "res runs on a")] {
        wait_for("it is known", || lab.ctl(node, &["status", "--json"]).stdout.contains("\"runs_on\": \"a\""));
        let output = lab.ctl(node, &["test-exec", "--yes", "res"]);
        assert!(output.code == REFUSED && output.stderr.contains(part), "{output:?}");
    }
    assert_eq!((lab.count("a", "start res"), lab.count("b", "start res")), (1, 0));
    lab.stop("b");
    let output = lab.ctl("b", &["test-exec", "res"]);
    assert!(output.code == REFUSED && output.stderr.contains("add --yes"), "{output:?}");
}

#[test]
fn bash_completes_commands_options_resources_and_nodes() {
    let lab = plan(&["a", "b", "w"]).resources(["web".to_owned(), "storage".to_owned()]).loopback();
    let complete = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let script = format!(
            "PATH={}:$PATH; source <(hastmonctl completion bash); COMP_WORDS=({}); COMP_CWORD={}; _hastmonctl; echo ${{COMPREPLY[*]}}",
            lab::hastmonctl().parent().unwrap().display(),
            words.iter().map(|word| format!("'{word}' ")).collect::<String>(),
            words.len() - 1
        );
        let output = run(Command::new("bash").args(["-c", &script]));
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{line}");
        output.stdout.trim().to_owned()
    };
    let config = lab.config().display().to_string();
    let with = |line: &str| complete(&line.replace("-c", &format!("-c {config} -n a")));
    assert_eq!(complete("hastmonctl sw"), "switchover");
    assert_eq!(complete("hastmonctl role sec"), "secondary");
    assert_eq!(with("hastmonctl -c role primary "), "all storage web");
    assert_eq!(with("hastmonctl explain -c w"), "web");
    assert_eq!(with("hastmonctl -c switchover web "), "a b w");
    assert_eq!(with("hastmonctl -c status -n "), "a b w");
    let drill = |line: &str| complete(&line.replace("-c", &format!("--node a -c {config}")));
    assert_eq!(drill("hastmonctl drill -c -n 3 w"), "web");
    assert_eq!((drill("hastmonctl drill -c web "), drill("hastmonctl drill -c -n ")), ("a b w".into(), String::new()));
    let history = drill;
    assert_eq!(history("hastmonctl history -c -n 3 --resource "), "storage web");
    assert_eq!(
        (history("hastmonctl history -c -n "), history("hastmonctl history --li")),
        (String::new(), "--lines".into())
    );
    assert_eq!(
        complete("hastmonctl -c /x -n b history --since 2h --"),
        "--config --control --debug --help --node --statedir --lines --since --resource --json --follow"
    );
    assert_eq!(complete("hastmonctl check --"), "--config --control --debug --help --node --run --json");
    assert_eq!(complete("hastmonctl -c /nosuch explain "), "", "no errors while somebody types");
}

#[test]
fn every_shell_knows_every_command() {
    let help = run(Command::new(lab::hastmonctl()).arg("-h")).stdout;
    let commands = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|word| !word.is_empty())
        .collect();
    assert!(commands.contains(&"explain") && !commands.contains(&"complete-names"), "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let text = run(Command::new(lab::hastmonctl()).args(["completion", shell])).stdout;
        let list = text.lines().find(|line| line.contains("role switchover pause")).unwrap();
        for command in &commands {
            assert!(
                list.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == *command),
                "{shell}: {command}"
            );
        }
    }
}
