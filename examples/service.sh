#!/bin/sh
# exec script of hastmon for one service: a program that stays in the foreground, its process id in a file. Plain POSIX sh;
# no service manager is asked, and none may start the program by itself.
#
# Copy it for each service, set what stands up to the line of dashes, and try it by hand before hastmon does:
#
#     ./service.sh start web; ./service.sh start web; ./service.sh status web; echo $?      # 0
#     ./service.sh stop web; ./service.sh stop web; ./service.sh status web; echo $?        # 1

set -u
# The daemon may have been started with next to no environment.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

program=/usr/local/bin/webd             # the whole path, as it shows in ps(1)
run() { exec "$program" --foreground; } # with its arguments; must stay in the foreground
answers() { true; }                     # a question that only a working service answers; must not take long
pidfile=/var/run/hastmon-${2:-none}.pid # in a directory that is empty after a reboot
log=/var/log/${2:-none}.log             # never the output of this script: see "start" below
patience=4                              # seconds between TERM and KILL: less than stop_timeout in hastmon.conf

# ------------------------------------------------------------------------------------------------------------------

# The process is there. Its command line is looked at, too: after a reboot the number may belong to somebody else.
alive() {
    pid=$(cat "$pidfile" 2>/dev/null) || return 1
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    case $(ps -o args= -p "$pid" 2>/dev/null) in *"$program"*) return 0 ;; *) return 1 ;; esac
}

# 0: it runs. 1: it does not. 2: it is there and does not answer; a primary then calls start, a secondary stop.
status() {
    alive || return 1
    answers || return 2
}

# Harmless when it runs already. Replaces a process that hangs. Succeeds only when the service answers; if that takes longer
# than start_timeout, hastmon ends this script together with what it has started.
start() {
    status
    case $? in
    0) return 0 ;;
    2) stop || return 1 ;;
    esac
    # Its output goes to a file: the other end of this script's output is hastmon, which may end before the service does.
    (run) </dev/null >>"$log" 2>&1 &
    echo $! >"$pidfile" || { kill -KILL $!; return 1; }
    until status; do
        if ! kill -0 $! 2>/dev/null; then
            echo "$program ended at once; see $log"
            rm -f "$pidfile"
            return 1
        fi
        sleep 0.1 # Linux and the BSDs sleep for parts of a second; elsewhere: 1
    done
}

# Succeeds only when the process is gone: another node starts the service as soon as this script says so.
stop() {
    tenths=0
    while alive; do
        case $tenths in
        0) kill "$pid" ;;
        "$((patience * 10))")
            echo "process $pid has not ended $patience s after TERM: killing it"
            kill -KILL "$pid"
            ;;
        "$((patience * 10 + 20))")
            echo "process $pid does not end"
            return 1
            ;;
        esac
        sleep 0.1
        tenths=$((tenths + 1))
    done
    rm -f "$pidfile"
}

case ${1:-} in
start | stop | status) "$1" ;;
*) exit 0 ;; # role, connect, disconnect, complain, and whatever comes later: nothing to do
esac
