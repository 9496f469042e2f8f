#!/bin/sh
# hastmon's main job in half a minute: three daemons on this machine, a service that answers, a node that dies.
#
#     sh demo/cluster.sh
#
# Needs a Rust toolchain and a POSIX shell, no root. It uses 127.0.0.1, ports 18451 to 18453 for the daemons and 18460
# for the service, and a temporary directory. At its end, also on ^C, no process and no file of it is left.

set -u
heartbeat=1      # seconds between two looks at the service
service=18460    # the port of the service: the same on every node, as with an address that moves along
patience=60      # seconds to wait for anything before the demonstration gives up

cd "$(dirname "$0")/.." || exit 1
dir=''
daemon_of_a=''
daemons=''
orphan=''

say() { printf '%s\n' "$*"; }

fail() {
    say "demo: $*" >&2
    for node in a b w; do
        [ ! -s "$dir/$node.log" ] || { say "--- the last lines of node $node:" >&2; tail -n 15 "$dir/$node.log" >&2; }
    done
    exit 1
}

# Waits, five seconds at most, until a process is gone.
gone() {
    tries=50
    while kill -0 "$1" 2>/dev/null && [ $tries -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    ! kill -0 "$1" 2>/dev/null
}

# Ends what this script has started: the daemons end their workers and the service. Takes no second ^C in between.
clean_up() {
    code=$?
    trap '' INT TERM HUP
    trap - EXIT
    for pid in $daemon_of_a $daemons; do kill -TERM "$pid" 2>/dev/null; done
    for pid in $daemon_of_a $daemons; do gone "$pid" || kill -KILL "$pid"; done
    # The worker of the daemon that was killed stops the service by itself, and goes.
    [ -z "$orphan" ] || gone "$orphan"
    for file in "$dir"/*.service; do
        [ -s "$file" ] || continue
        pid=$(cat "$file")
        case $("$greeter" ask $service 2>/dev/null) in *"process $pid") kill -KILL "$pid" ;; esac
    done
    [ -z "$dir" ] || rm -rf "$dir"
    exit "$code"
}

# now: milliseconds. since MS: seconds with one decimal.
now() { "$greeter" clock; }
since() {
    tenths=$((($(now) - $1 + 50) / 100))
    printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

control() {
    node=$1 subcommand=$2
    shift 2
    "$hastmonctl" "$subcommand" -c "$dir/hastmon.conf" -n "$node" "$@"
}

# The whole cluster in one line.
overview() {
    for node in a b w; do
        text=$(control "$node" status 2>/dev/null) || text=''
        role=$(say "$text" | sed -n 's/^  role: //p')
        state=$(say "$text" | sed -n 's/^  state: //p')
        [ $node != b ] || complaints=$(say "$text" | sed -n 's/^  complaints: \([0-9]*\).*/\1/p')
        [ -n "$role" ] || role='gone'
        [ -z "$state" ] || role="$role/$state"
        printf '%s %-20s' "$node" "$role"
    done
    answer=$("$greeter" ask $service 2>/dev/null) || answer='no answer'
    printf 'service: %s' "$answer"
    [ "${complaints:-0}" = 0 ] || printf ', complaints at b: %s' "$complaints"
}

# wait_until COMMAND...: waits. show_until COMMAND...: waits, and shows the cluster whenever it has changed.
wait_until() {
    limit=$(($(now) + patience * 1000))
    until "$@"; do
        [ -z "$showing" ] || show
        [ "$(now)" -lt "$limit" ] || fail "waited $patience s in vain: $*"
        sleep 0.1
    done
}
show_until() {
    showing=yes
    wait_until "$@"
    showing=''
}
show() {
    line=$(overview)
    [ "$line" = "$shown" ] || say "  $(since "$started") s  $line"
    shown=$line
}
shown=''
showing=''

has_role() { control "$1" status 2>/dev/null | grep -q "^  role: $2\$"; }
answers() { case $("$greeter" ask $service 2>/dev/null) in "node $1"*) ;; *) return 1 ;; esac; }
is_ready() { control "$1" status >/dev/null 2>&1; }
is_connected() { control "$1" status 2>/dev/null | grep -q '(connected)'; }
sees_it_run() { control w status 2>/dev/null | grep -q '^  state: run$'; }

say 'Building (cargo build --release)...'
unset CARGO_BUILD_TARGET
target=${CARGO_TARGET_DIR:-target}
cargo build --release --quiet --target-dir "$target" -p hastmon --bins --example greeter || exit 1
case $target in /*) ;; *) target=$PWD/$target ;; esac
hastmon=$target/release/hastmon hastmonctl=$target/release/hastmonctl greeter=$target/release/examples/greeter
if "$greeter" ask $service >/dev/null 2>&1; then
    say "demo: port $service is in use already" >&2
    exit 1
fi

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
dir=$(mktemp -d "${TMPDIR:-/tmp}/hastmon-demo.XXXXXX") || exit 1

# The script that hastmon calls. A real one would call a service manager; this one keeps a process id in a file.
for node in a b; do
    cat >"$dir/$node.sh" <<EOF
#!/bin/sh
answers() { case \$($greeter ask $service 2>/dev/null) in 'node $node,'*) ;; *) return 1 ;; esac; }
case \$1 in
start)
    answers && exit 0
    $greeter serve $service 'node $node' </dev/null >/dev/null 2>&1 &
    echo \$! >$dir/$node.service
    until answers; do kill -0 \$! || exit 1; sleep 0.05; done ;;
stop)
    answers || exit 0
    kill "\$(cat $dir/$node.service)"
    while answers; do sleep 0.05; done
    rm $dir/$node.service ;;
status)
    answers || exit 1 ;;
esac
exit 0
EOF
    chmod +x "$dir/$node.sh"
done

cat >"$dir/hastmon.conf" <<EOF
heartbeat_interval $heartbeat
timeout 2
on a { control uds://$dir/a.control  listen tcp4://127.0.0.1:18451 }
on b { control uds://$dir/b.control  listen tcp4://127.0.0.1:18452 }
on w { control uds://$dir/w.control  listen tcp4://127.0.0.1:18453 }

resource greeter {
    on a { exec $dir/a.sh  remote tcp4://127.0.0.1:18452  friends tcp4://127.0.0.1:18453  priority 0 }
    on b { exec $dir/b.sh  remote tcp4://127.0.0.1:18451  friends tcp4://127.0.0.1:18453  priority 1 }
    on w { exec /bin/true  remote tcp4://127.0.0.1:18451 tcp4://127.0.0.1:18452 }
}
EOF

say
say 'Three nodes: a and b can run the service, w watches. Each is one daemon, as it would be on a host of its own.'
started=$(now)
for node in a b w; do
    "$hastmon" -F -c "$dir/hastmon.conf" -P "$dir/$node.pid" -s "$dir/$node.state" -n "$node" </dev/null >"$dir/$node.log" 2>&1 &
    case $node in
    a) daemon_of_a=$! ;;
    *) daemons="$daemons $!" ;;
    esac
done
for node in a b w; do wait_until is_ready $node; done
control b role secondary all && control a role primary all || fail 'a and b have not taken their roles'
show_until answers a
show_until is_connected a
control w role watchdog all || fail 'w has not taken its role'
show_until sees_it_run
show
say
control a status

say 'Now node a dies: kill -9 for its daemon and for the service.'
orphan=$(control a status | sed -n 's/^  workerpid: //p')
started=$(now)
# In braces: some shells tell of a process that was killed.
{
    kill -KILL "$daemon_of_a" "$(cat "$dir/a.service")"
    wait "$daemon_of_a"
} 2>/dev/null
rm -f "$dir/a.service"
daemon_of_a=''
show_until has_role b primary
decided=$(since "$started")
show_until answers b
answered=$(since "$started")
show
say
say "After $decided s node b had become primary, after $answered s its service answered."
say "(The worker of the killed daemon has given the lease of node a back, so nobody had to wait for its end.)"
say 'Cleaning up.'
