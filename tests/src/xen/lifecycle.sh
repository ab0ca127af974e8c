# Runs in dom0, after helpers.sh: what `xl` does with the guest of
# lifecycle-guest.sh, a check a function.

comes_up() {
    dd if=/dev/zero of=disk.img bs=1M count=1 2> /dev/null
    losetup /dev/loop0 disk.img
    start guest
    wait_for guest $patience 'guest: ready'
}

disk_holds_what_the_guest_wrote() {
    grep -q 'written by the guest' disk.img || fail "the guest's words are not in the file of its disk"
}

network_answers() {
    ping -c 1 -W 10 10.0.9.2 || fail "the guest does not answer"
}

# The guest answers to what it is told.
asked() {
    forget guest
    type_into guest "$1"
    wait_for guest 20 "$2"
}

console_works_both_ways() {
    asked hello 'heard: hello'
    grep -q 'heard: hello' "$out/log/console-guest" || fail "xl console did not show the answer"
}

is_saved() {
    timeout 100 xl save guest guest.save || fail "xl save: status $?"
    wait_gone guest 10
}

is_restored() {
    timeout 100 xl restore guest.save || fail "xl restore: status $?"
    rm guest.save
    asked state 'state: good'
    network_answers
}

reboots() {
    forget guest
    timeout 20 xl reboot guest || fail "xl reboot: status $?"
    comes_again guest $patience 'guest: ready'
}

shuts_down() {
    timeout 20 xl shutdown guest || fail "xl shutdown: status $?"
    wait_gone guest 60
}

# A guest that resets itself is started again.
resets_itself() {
    start resetting
    wait_for resetting $patience 'guest: output'
    forget resetting
    comes_again resetting $patience 'guest: output'
    stop resetting
}
