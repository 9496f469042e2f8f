#!/bin/sh
# exec script of hastmon for a file system and an address that move together (Linux: needs iproute2; arping if it is there).
#
# READ THIS FIRST. Two nodes that mount one ordinary file system at the same time destroy it. hastmon 1.0.0-alpha keeps two
# primaries apart as well as it can, and cannot promise it (hastmon(8), CAVEATS). Use this only on storage that itself lets one
# node write at a time, such as a replicated block device that refuses a second primary, or a disk with persistent reservations.
#
# Copy it for each resource, set what stands up to the line of dashes, and try it by hand as in service.sh.

set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

device=/dev/vg0/data        # the same on every node; not in fstab, or there with noauto
mountpoint=/srv/data        # exists and is empty on every node
fstype=ext4
address=192.0.2.10/24       # not configured by anybody else
interface=eth0
patience=4                  # seconds to wait for an unmount: less than stop_timeout in hastmon.conf

# ------------------------------------------------------------------------------------------------------------------

# The kernel's table is read and the file system never touched: a disk that hangs must not hang the question.
is_mounted() { awk -v where="$mountpoint" '$2 == where { found = 1 } END { exit !found }' /proc/self/mounts; }
has_address() { ip -o addr show dev "$interface" | grep -qF " $address "; }

# 0: all is here. 1: nothing is. 2: some of it: a primary then completes it, a secondary removes it.
status() {
    here=0
    is_mounted && here=$((here + 1))
    has_address && here=$((here + 1))
    case $here in
    2) return 0 ;;
    0) return 1 ;;
    *) return 2 ;;
    esac
}

# First the data, then the address by which clients come. What is done already is not done again.
start() {
    is_mounted || mount -t "$fstype" "$device" "$mountpoint" || return 1
    has_address || ip addr add "$address" dev "$interface" || return 1
    # Neighbours that remember the other node are told. If that fails they find out by themselves, a little later.
    if command -v arping >/dev/null; then
        arping -q -U -c 1 -w 1 -I "$interface" "${address%/*}" >/dev/null 2>&1
    fi
    return 0
}

# The other way round. Never a lazy unmount (umount -l): it says "done" while programs here still write.
stop() {
    if has_address; then
        ip addr del "$address" dev "$interface" || return 1
    fi
    seconds=0
    while is_mounted && ! umount "$mountpoint"; do
        if [ $seconds -ge $patience ]; then
            echo "$mountpoint cannot be unmounted; who uses it: fuser -vm $mountpoint"
            return 1
        fi
        seconds=$((seconds + 1))
        sleep 1
    done
}

case ${1:-} in
start | stop | status) "$1" ;;
*) exit 0 ;; # role, connect, disconnect, complain, and whatever comes later: nothing to do
esac
