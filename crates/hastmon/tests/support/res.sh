#!/bin/sh
# The resource of a laboratory. Every call goes to the log; what runs is a real process (or, of hundreds, a file).
# Before an event is carried out, $dir/before/EVENT is read, if it is there: so a test makes it slow, fail, hang or talk.
lab=@LAB@ node=@NODE@ kind=@KIND@
dir=$lab/$node
event=$1 name=$2
run=$dir/run/$name

log() {
    read -r now _ </proc/uptime
    echo "${now%.*}${now#*.}0000000 $node $* pid=$$" >>"$lab/events"
}

# The working directory tells the service from a process that happens to have its number, and from a zombie.
alive() {
    if [ "$kind" = file ]; then
        [ -e "$run" ]
        return
    fi
    read -r pid 2>/dev/null <"$run" && [ "/proc/$pid/cwd" -ef "$dir/run" ]
}

[ "$kind" = file ] && [ "$event" = status ] || log "$@"
[ -e "$dir/before/$event" ] && . "$dir/before/$event"

case $event in
start)
    alive && exit 0
    log up "$name"
    if [ "$kind" = file ]; then
        : >"$run"
    else
        cd "$dir/run" || exit 1
        # A start may be cut short at any moment: what leaves its process group is on record before.
        (read -r self _ </proc/self/stat && echo "$self" 1<>"$run" && exec setsid sleep 100000) </dev/null >/dev/null 2>&1 &
        echo $! 1<>"$run"
    fi
    ;;
status)
    alive && exit 0
    exit 1
    ;;
stop)
    alive || exit 0
    if [ "$kind" = process ]; then
        kill -9 "$pid"
        while alive; do sleep 0.01; done
    fi
    rm -f "$run"
    log down "$name"
    ;;
esac
exit 0
