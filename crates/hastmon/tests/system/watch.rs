//! `hastmonctl watch` on a terminal, with real daemons: what it shows, what it does, and how it leaves the terminal.

use std::process::Command;

use rustix::process::Signal;

use crate::support::lab::{self, Lab, Plan, run};
use crate::support::process;
use crate::support::terminal::Terminal;
use crate::support::time::wait_for;

const USAGE: i32 = 64;
const CTRL_C: &str = "\u{3}";
const CTRL_Z: &str = "\u{1a}";

fn plan() -> Plan {
    Plan::new(&["a", "b", "w"]).lease().set("lease", "5").set("stop_timeout", "5")
}

fn cluster() -> Lab {
    let lab = plan().loopback();
    lab.run_standard();
    lab
}

fn command(lab: &Lab, node: &str) -> Command {
    let mut command = Command::new(lab::hastmonctl());
    command.args(["watch", "-n", node, "-c"]).arg(lab.config()).arg("-s").arg(lab.state_dir(node));
    command
}

fn watch(lab: &Lab, node: &str) -> Terminal {
    Terminal::run(&command(lab, node), 80, 24)
}

/// Whether a line of the screen has these words first, marks left out.
fn has_row(screen: &str, words: &[&str]) -> bool {
    screen.lines().any(|line| {
        let line = line.trim_start_matches(['>', '!', ' ']);
        line.split_whitespace().take(words.len()).eq(words.iter().copied())
    })
}

#[track_caller]
fn wait_row(terminal: &Terminal, words: &[&str]) -> String {
    terminal.wait_until(&format!("there is a row {words:?}"), |screen| has_row(screen, words))
}

#[test]
fn it_shows_what_runs_and_who_is_connected_and_follows_a_switchover() {
    let lab = cluster();
    let mut terminal = watch(&lab, "a");
    wait_row(&terminal, &["res", "primary", "run", "a"]);
    wait_row(&terminal, &["b", "secondary", "stopped", "connected"]);
    wait_row(&terminal, &["w", "watchdog", "run", "connected"]);
    let screen = terminal.wait_text("3/3");
    assert!(screen.starts_with("1 of 1 resource runs"), "{screen}");
    // A screen may be seen while it is being drawn.
    terminal.wait_text("[res] role changed from init to primary");
    assert_eq!(lab.ctl("a", &["switchover", "res", "b"]).code, 0);
    wait_row(&terminal, &["res", "secondary", "stopped", "b"]);
    wait_row(&terminal, &["b", "primary", "run", "connected"]);
    terminal.wait_text("[res] role changed from primary to secondary");
    terminal.press("q");
    assert_eq!(terminal.ended(), Some(0));
    wait_for("the terminal is as before", || terminal.is_as_before());
}

#[test]
fn a_switchover_by_keys_happens_after_a_yes_alone() {
    let lab = cluster();
    let mut terminal = watch(&lab, "a");
    wait_row(&terminal, &["b", "secondary", "stopped", "connected"]);
    terminal.press("s");
    wait_row(&terminal, &["b", "secondary", "stopped", "connected"]);
    terminal.press("j\r");
    terminal.wait_text("Really? y = yes, every other key = no: hastmonctl switchover res b");
    terminal.press("\r");
    terminal.wait_text("Nothing was done.");
    assert_eq!(lab.count("a", "stop res"), 0);
    terminal.press("sj\ry");
    terminal.wait_text("-- hastmonctl switchover res b (over");
    let screen = terminal.wait_text("runs on b: 0.");
    assert!(screen.contains("stopped here: 0.") && screen.contains("together: "), "{screen}");
    lab.wait_runs("b");
    wait_row(&terminal, &["res", "secondary", "stopped", "b"]);
    terminal.press("s");
    terminal.wait_text("res runs on b: switch it over there.");
}

#[test]
fn a_pause_and_its_end_by_keys() {
    let lab = cluster();
    let mut terminal = watch(&lab, "a");
    wait_row(&terminal, &["w", "watchdog", "run", "connected"]);
    terminal.press("p");
    terminal.wait_text("hastmonctl pause res");
    terminal.press("y");
    terminal.wait_text("\npaused: by ");
    wait_row(&terminal, &["res", "primary", "paused,run", "a"]);
    terminal.wait_text("-- hastmonctl pause res (over");
    terminal.press("uy");
    terminal.wait_text("-- hastmonctl resume res (over");
    wait_row(&terminal, &["res", "primary", "run", "a"]);
}

#[test]
fn a_daemon_that_is_killed_is_said_to_be_silent_and_seen_when_it_is_back() {
    let lab = cluster();
    let mut terminal = watch(&lab, "w");
    wait_row(&terminal, &["res", "watchdog", "run", "a"]);
    lab.kill("w");
    let screen = terminal.wait_text("no answer from hastmon since ");
    assert!(has_row(&screen, &["res", "watchdog", "run", "a"]), "what was known is still there: {screen}");
    assert!(screen.contains("; trying again"), "{screen}");
    lab.start("w");
    wait_row(&terminal, &["res", "init", "-"]);
    terminal.wait_until("it answers", |screen| !screen.contains("no answer"));
    lab.role("w", "watchdog");
    wait_row(&terminal, &["res", "watchdog", "run"]);
    terminal.press("q");
    assert_eq!(terminal.ended(), Some(0));
}

#[test]
fn a_daemon_that_hangs_holds_up_neither_the_screen_nor_the_keys() {
    let lab = cluster();
    let mut terminal = watch(&lab, "w");
    wait_row(&terminal, &["res", "watchdog", "run", "a"]);
    process::freeze(lab.pid("w"));
    terminal.wait_text("no answer from hastmon since ");
    terminal.press("?");
    terminal.wait_text("Any key goes on.");
    terminal.press("xq");
    assert_eq!(terminal.ended(), Some(0));
    wait_for("the terminal is as before", || terminal.is_as_before());
    lab.signal("w", Signal::CONT);
}

#[test]
fn however_it_ends_the_terminal_is_as_before() {
    let lab = plan().loopback();
    lab.start("a");
    type End = fn(&mut Terminal);
    let ends: [(i32, End); 6] = [
        (0, |terminal| terminal.press("q")),
        (0, |terminal| terminal.press(CTRL_C)),
        (128 + 15, |terminal| terminal.signal(Signal::TERM)),
        (128 + 1, |terminal| terminal.signal(Signal::HUP)),
        (128 + 2, |terminal| terminal.signal(Signal::INT)),
        (128 + 3, |terminal| terminal.signal(Signal::QUIT)),
    ];
    for (code, end) in ends {
        let mut terminal = watch(&lab, "a");
        wait_row(&terminal, &["res", "init"]);
        assert!(!terminal.is_as_before(), "the test sees what it looks for");
        end(&mut terminal);
        assert_eq!(terminal.ended(), Some(code));
        wait_for("the terminal is as before", || terminal.is_as_before());
    }
}

#[test]
fn ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_again() {
    let lab = plan().loopback();
    lab.start("a");
    let words = command(&lab, "a");
    let words: Vec<_> = words.get_args().map(|word| word.to_str().unwrap()).collect();
    let script = format!(
        "set -m; {} {}; echo stopped $?; read line; fg; echo over $?; read line",
        lab::hastmonctl().display(),
        words.join(" ")
    );
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]);
    let mut terminal = Terminal::run(&shell, 80, 24);
    wait_row(&terminal, &["res", "init"]);
    terminal.press(CTRL_Z);
    terminal.wait_text("stopped 14");
    wait_for("the terminal is as before", || terminal.is_as_before());
    terminal.press("\n");
    wait_row(&terminal, &["res", "init"]);
    terminal.press("q");
    terminal.wait_text("over 0");
    wait_for("the terminal is as before", || terminal.is_as_before());
}

#[test]
fn it_fits_itself_to_the_window() {
    let lab = plan().loopback();
    lab.start("a");
    let mut terminal = watch(&lab, "a");
    wait_row(&terminal, &["res", "init"]);
    terminal.resize(100, 30);
    terminal.wait_until("the keys are on the last line", |screen| {
        screen.lines().count() == 30 && screen.lines().last().is_some_and(|line| line.starts_with("j/k select"))
    });
    terminal.resize(20, 5);
    terminal
        .wait_until("it is small", |screen| screen.ends_with("\nj/k select  s switch") && has_row(screen, &["res"]));
}

#[test]
fn without_a_history_it_shows_the_rest_and_says_so_in_colours_or_without() {
    let lab = plan().loopback();
    lab.start("a");
    // Alone, it gets no votes.
    lab.role("a", "primary");
    for (no_color, is_coloured) in [("", true), ("1", false)] {
        let mut command = Command::new(lab::hastmonctl());
        command.args(["status", "-w", "-n", "a", "-c"]).arg(lab.config()).env("NO_COLOR", no_color);
        let terminal = Terminal::run(&command, 80, 24);
        terminal.wait_text("0 of 1 resource runs; res: primary, state ");
        // The state directory of the configuration is not that of the laboratory.
        terminal.wait_text("-- No events: ");
        let bytes = terminal.bytes();
        assert_eq!(bytes.contains("38;5;1"), is_coloured, "red: {bytes:?}");
    }
}

#[test]
fn without_a_terminal_it_says_what_else_there_is() {
    let lab = plan().loopback();
    let output = run(&mut command(&lab, "a"));
    assert_eq!((output.code, output.stdout.as_str()), (USAGE, ""), "{output:?}");
    assert!(output.stderr.contains("watch needs a terminal"), "{output:?}");
    let mut command = command(&lab, "a");
    let mut terminal = Terminal::run(command.env("TERM", "dumb"), 80, 24);
    assert_eq!(terminal.ended(), Some(USAGE));
    terminal.wait_text("watch needs a terminal");
    assert!(!terminal.bytes().contains('\u{1b}'));
}

/// The screenshot of the README: `cargo test -p hastmon --test system watch::screenshot -- --ignored --nocapture`.
#[test]
#[ignore = "it prints what the README shows, after a real failover"]
fn screenshot() {
    let lab = plan().resources(["web".to_owned(), "storage".to_owned()]).loopback();
    lab.run_standard();
    let terminal = watch(&lab, "b");
    wait_row(&terminal, &["storage", "secondary", "stopped", "a"]);
    lab.power_off("a");
    for resource in ["web", "storage"] {
        wait_row(&terminal, &[resource, "primary", "run", "b"]);
    }
    wait_row(&terminal, &["a", "-", "-", "not", "connected"]);
    terminal.wait_text("[web] state changed from starting to run");
    println!("{}", terminal.wait_text("[storage] state changed from starting to run"));
}
