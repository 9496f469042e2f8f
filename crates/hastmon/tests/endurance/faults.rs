//! The faults. Each finds the cluster at rest and does its harm; that is over when it returns, and the cluster may take its time to settle.

use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::support::process;
use crate::support::time::{pause, wait_for, wait_some};

pub(crate) type Fault = (&'static str, fn(&mut Cluster));

pub(crate) const FAULTS: [Fault; 20] = [
    ("kill -9 of a daemon", kill_daemon),
    ("kill -9 of a worker", kill_worker),
    ("kill -9 of a daemon and its worker (not of the primary)", kill_both),
    ("kill -9 of a status hook", |cluster| kill_hook(cluster, "status")),
    ("kill -9 of a start hook", |cluster| kill_hook(cluster, "start")),
    ("kill -9 of a stop hook", |cluster| kill_hook(cluster, "stop")),
    ("kill -9 of the resource", kill_resource),
    ("power loss", power_loss),
    ("SIGSTOP and SIGCONT of a daemon", freeze_daemon),
    ("SIGSTOP and SIGCONT of a worker", freeze_worker),
    ("slow scripts", slow_scripts),
    ("a start that hangs", |cluster| bad_start(cluster, "log hung; exec sleep 1000")),
    ("starts that fail until the primary gives up", starts_fail),
    ("a stop that hangs, at a change of role", |cluster| bad_stop(cluster, "log hung; exec sleep 1000")),
    ("a stop that fails, at a change of role", |cluster| bad_stop(cluster, "exit 1")),
    ("a role set on the other node", move_role),
    ("a role taken away", take_role_away),
    ("a daemon told to end and started again", restart_daemon),
    ("a daemon told to end twice and started again", hurry_daemon),
    ("reloads, good and faulty", reloads),
];

fn kill_daemon(cluster: &mut Cluster) {
    let node = cluster.any_victim();
    cluster.say(&format!("kill -9 of the daemon of {node}"));
    cluster.lab().kill(node);
    pause(cluster.random.ms(0, 7000));
}

fn kill_worker(cluster: &mut Cluster) {
    let node = cluster.any_node();
    let worker = cluster.worker(node);
    cluster.say(&format!("kill -9 of the worker of {node}"));
    process::signal(worker, Signal::KILL);
    wait_for("it is gone", || !process::alive(worker));
}

fn kill_both(cluster: &mut Cluster) {
    let all: Vec<&str> = [cluster.secondary(), "w"].into_iter().filter(|node| cluster.may_die(node)).collect();
    let node = cluster.random.pick(&all);
    let worker = cluster.worker(node);
    cluster.say(&format!("kill -9 of the daemon of {node} and its worker"));
    // Stopped first, so that it does nothing about its daemon's end.
    process::signal(worker, Signal::STOP);
    cluster.lab().kill(node);
    process::signal(worker, Signal::KILL);
    pause(cluster.random.ms(0, 3000));
}

/// Has the primary call its script in such a way that this event hangs, and kills that call.
fn kill_hook(cluster: &mut Cluster, event: &str) {
    let node = cluster.primary();
    let hung = cluster.lab().count(node, "hung");
    cluster.once(node, event, "log hung; echo $$ >$dir/run/hung; exec sleep 1000");
    match event {
        "start" => cluster.lab().kill_service(node, "res"),
        "stop" => cluster.lab().role(node, "secondary"),
        _ => {}
    }
    cluster.lab().wait_call(node, "hung", hung + 1);
    let file = cluster.lab().node_dir(node).join("run/hung");
    let hook = wait_some("the hook's number", || std::fs::read_to_string(&file).ok()?.trim().parse().ok());
    cluster.say(&format!("kill -9 of a {event} on {node}"));
    process::signal(hook, Signal::KILL);
    std::fs::remove_file(file).unwrap();
}

fn kill_resource(cluster: &mut Cluster) {
    let node = cluster.primary();
    cluster.say(&format!("kill -9 of the resource on {node}"));
    cluster.lab().kill_service(node, "res");
}

fn power_loss(cluster: &mut Cluster) {
    let node = cluster.any_victim();
    cluster.say(&format!("power loss of {node}"));
    cluster.power_off(node);
    pause(cluster.random.ms(0, 7000));
}

fn freeze_daemon(cluster: &mut Cluster) {
    let node = cluster.any_node();
    let span = cluster.random.ms(500, 8000);
    cluster.say(&format!("the daemon of {node} frozen for {span:?}"));
    Cluster::freeze(cluster.lab().pid(node), span);
}

fn freeze_worker(cluster: &mut Cluster) {
    let node = cluster.any_node();
    let span = cluster.random.ms(500, 8000);
    cluster.say(&format!("the worker of {node} frozen for {span:?}"));
    Cluster::freeze(cluster.worker(node), span);
}

fn slow_scripts(cluster: &mut Cluster) {
    let node = cluster.random.pick(&["a", "b"]);
    let span = cluster.random.ms(100, 1500);
    cluster.say(&format!("scripts of {node} take {span:?} longer"));
    for event in ["status", "start", "stop", "role", "connect", "disconnect"] {
        cluster.lab().before(node, event, &format!("sleep {}", span.as_secs_f64()));
    }
    match cluster.random.below(3) {
        0 => cluster.lab().kill_service(cluster.primary(), "res"),
        1 => cluster.lab().role(cluster.primary(), "secondary"),
        _ => {}
    }
    pause(cluster.random.ms(1000, 5000));
}

fn bad_start(cluster: &mut Cluster, shell: &str) {
    let node = cluster.primary();
    cluster.say(&format!("a start on {node}: {shell}"));
    cluster.once(node, "start", shell);
    cluster.lab().kill_service(node, "res");
    wait_for("it was tried", || !cluster.lab().node_dir(node).join("before/start").exists());
}

fn starts_fail(cluster: &mut Cluster) {
    let node = cluster.primary();
    cluster.say(&format!("all starts on {node} fail"));
    cluster.lab().before(node, "start", "exit 1");
    cluster.lab().kill_service(node, "res");
    wait_for("the role is given up", || cluster.lab().res(node).role == "secondary");
}

fn bad_stop(cluster: &mut Cluster, shell: &str) {
    let node = cluster.primary();
    cluster.say(&format!("a stop on {node}: {shell}"));
    cluster.once(node, "stop", shell);
    cluster.lab().role(node, "secondary");
    wait_for("it was tried", || !cluster.lab().node_dir(node).join("before/stop").exists());
}

fn move_role(cluster: &mut Cluster) {
    let node = cluster.secondary();
    cluster.say(&format!("{node} is told to be primary"));
    cluster.lab().role(node, "primary");
    pause(cluster.random.ms(0, 3000));
}

fn take_role_away(cluster: &mut Cluster) {
    let node = cluster.random.pick(&["a", "b"]);
    let role = cluster.random.pick(&["init", "secondary", "watchdog"]);
    cluster.say(&format!("{node} is told to be {role}"));
    cluster.lab().role(node, role);
    pause(cluster.random.ms(0, 7000));
    cluster.lab().role(node, "secondary");
}

fn restart_daemon(cluster: &mut Cluster) {
    let node = cluster.any_victim();
    if cluster.random.below(2) == 0 {
        cluster.once(node, "stop", "sleep 2");
    }
    cluster.say(&format!("the daemon of {node} is told to end"));
    cluster.stop(node, false);
    pause(cluster.random.ms(0, 7000));
}

fn hurry_daemon(cluster: &mut Cluster) {
    let node = cluster.any_victim();
    cluster.once(node, "stop", "sleep 2");
    cluster.say(&format!("the daemon of {node} is told to end, twice"));
    cluster.stop(node, true);
    pause(cluster.random.ms(0, 3000));
}

fn reloads(cluster: &mut Cluster) {
    for _ in 0..1 + cluster.random.below(4) {
        let node = cluster.any_node();
        let good = cluster.lab().standard_config();
        let (text, is_good) = match cluster.random.below(5) {
            0 => (good, true),
            1 => (good.replace("hook_timeout 2", "hook_timeout 3\nattempts 4"), true),
            2 => {
                // Restarts what runs.
                let script = cluster.lab().script(node).display().to_string();
                (good.replace(&script, &script.replace("res.sh", "res.too.sh")), true)
            }
            3 => (good.replacen('{', "", 1), false),
            _ => (good.replace(&format!("listen tcp4://{}", cluster.lab().listens(node)), "listen 192.0.2.77"), false),
        };
        cluster.lab().write_config(&text);
        cluster.say(&format!("{node} reads {} file again", if is_good { "a good" } else { "a faulty" }));
        let socket = cluster.lab().control_socket(node).display().to_string();
        let output = cluster.lab().ctl(node, &["reload", "--control", &socket]);
        assert_eq!(output.code == 0, is_good, "{output:?}");
        if cluster.random.below(2) == 0 {
            cluster.lab().signal(node, Signal::HUP);
        }
    }
    // Others are asked with the file as well.
    cluster.lab().write_config(&cluster.lab().standard_config());
}
