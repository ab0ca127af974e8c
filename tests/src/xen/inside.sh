# Runs in dom0, after helpers.sh: guests that are the guest application, and one
# with options in xenstore.

# The domain ends as one that is done (SHUTDOWN_poweroff), as `xl` tells in its
# log: one that faults without an end to it looks like a reset.
ends() {
    start "$1"
    wait_gone "$1" 60
    ended_for "$1" 0 || fail "$1: $(grep -m1 'reason code' "$out/log/xl-$1.log")"
}

ended_for() {
    grep -q "has shut down, reason code $2" "$out/log/xl-$1.log"
}

# The last line comes after ExitBootServices, over port 0xE9.
passes() {
    ends "$1"
    xl dmesg | grep -q 'guest: [0-9]* passed, 0 failed' || fail "$1: it did not pass"
    said "$1" 'guest: time ' || fail "$1: it was told no time"
    ! said "$1" 'FAIL ' || fail "$(console "$1" | grep -m1 'FAIL ')"
}

# The domain ends as one that is to be made anew (SHUTDOWN_reboot); its
# configuration says to keep it instead.
resets() {
    start "$1"
    eventually 60 ended_for "$1" 1 || fail "$1: no reset, state $(state "$1")"
    said "$1" 'guest: reset=' || fail "$1: a reset that nobody asked for"
    stop "$1"
}

obeys_options() {
    start "$1" -p
    options=/local/domain/$(xl domid "$1")/data/ovmf-lite
    xenstore-write "$options/append" 'from-xenstore' "$options/log" 'error'
    xl unpause "$1"
    finish "$1" $patience
    ! said "$1" 'ovmf-lite:' || fail "$1: it logs what it should not"
}
