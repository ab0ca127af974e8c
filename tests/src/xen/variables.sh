# Runs in dom0, after helpers.sh: a guest whose variables are on a disk.

head -c 1048576 /dev/zero | tr '\0' x > other.img
losetup /dev/loop0 other.img

# passes NAME [WORDS]: the application passes before ExitBootServices, and the
# firmware says WORDS of the disk.
passes() {
    start "$1"
    wait_gone "$1" $patience
    ! said "$1" 'FAIL ' || fail "$(console "$1" | tr -d '\r' | grep -m1 'FAIL ')"
    said "$1" "variables on Xen disk xvdz, ${2:-528 KiB}" || fail "$1: it does not say where variables are"
    said "$1" ' passed, 0 failed' || fail "$1: it did not pass"
}

# The same for one whose last lines come after ExitBootServices, over port 0xE9.
passes_late() {
    before=$(late_passes)
    start "$1"
    wait_gone "$1" $patience
    ! said "$1" 'FAIL ' || fail "$(console "$1" | tr -d '\r' | grep -m1 'FAIL ')"
    said "$1" "variables on Xen disk xvdz, ${2:-528 KiB}" || fail "$1: it does not say where variables are"
    ! xl dmesg | grep 'FAIL ' || fail "it fails after ExitBootServices"
    [ "$(late_passes)" -gt "$before" ] || fail "$1: it did not pass after ExitBootServices"
}

late_passes() {
    xl dmesg | grep -c 'ok store: SetVariable is unsupported' || true
}

# What Linux reads from the disk is what is there.
uses_disks() {
    sum=$(md5sum < vars.fd)
    succeed "$1" $patience
    said "$1" "${sum%% *}" || fail "$1: it does not read what is on xvdz"
    [ "$sum" = "$(md5sum < vars.fd)" ] || fail "$1: vars.fd has changed"
    grep -q 'written by Linux' other.img || fail "$1: what it wrote is not on its disk"
}

formats() {
    head -c 540672 /dev/zero > blank.fd
    sum=$(md5sum < other.img)
    passes formats '528 KiB: expected a store'
    passes_late formatted
    [ "$sum" = "$(md5sum < other.img)" ] || fail "another disk has changed"
}

last() {
    console loop | tr -d '\r' | sed -n "s/^$1=\([0-9]*\)\.\$/\1/p" | tail -n 1
}

# destroyed ROUNDS: each time the application finds at least what it was told to
# be written before. The console may have lost the last lines.
destroyed() {
    cp vars.fd loop.fd
    written=0
    round=0
    while [ $((round += 1)) -le "$1" ]; do
        start loop
        wait_for loop $patience 'written='
        found=$(last found)
        [ "$found" -ge "$written" ] || fail "round $round: found $found, $written were written"
        sleep "$((round * 7 % 4)).$((round * 37 % 10))"
        ! said loop 'FAIL ' || fail "$(console loop | grep -m1 'FAIL ')"
        timeout 30 xl destroy loop
        wait_gone loop 10
        sleep 0.5
        written=$(last written)
        said loop 'variables on Xen disk xvdz, 528 KiB' || fail "round $round: no store"
        ! said loop 'expected a store' || fail "round $round: the store was damaged"
        forget loop
    done
    figure "written until the last end" "$written"
}
