#!/bin/sh
# A resource for hard times. One process at most, whoever is killed while it starts; its end is on record, however it came.
# Before an event is carried out, $dir/before/EVENT is read, if it is there: so a fault makes it slow, fail or hang.
dir=@LAB@/@NODE@
event=$1 name=$2
run=$dir/run/$name

log() {
    read -r now _ </proc/uptime
    echo "${now%.*}${now#*.}0000000 @NODE@ $* pid=$$" >>"@LAB@/events"
}

# The service holds this lock for as long as it lives; its process id stands in $run.
alive() {
    ! flock -n "$run.lock" true
}

ended() {
    [ -e "$run" ] && rm "$run" && log down "$name"
}

if [ "$event" = serve ]; then
    cd "$dir/run" || exit 1
    echo $$ >"$run.new" && mv "$run.new" "$run"
    log up "$name"
    exec sleep 100000
fi

log "$@"
[ -e "$dir/before/$event" ] && . "$dir/before/$event"
# One call at a time: a killed worker may have left one behind that is not done yet.
exec 9>"$dir/run/call"
flock 9

case $event in
start)
    alive && exit 0
    ended
    setsid flock -n --no-fork "$run.lock" "$0" serve "$name" </dev/null >/dev/null 2>&1 9>&- &
    while ! [ -e "$run" ]; do sleep 0.01; done
    ;;
status)
    alive && exit 0
    ended
    exit 1
    ;;
stop)
    while alive; do
        [ -e "$run" ] && kill -9 "$(cat "$run")" 2>/dev/null
        sleep 0.01
    done
    ended
    ;;
esac
exit 0
