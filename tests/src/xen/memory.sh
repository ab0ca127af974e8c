# Runs in dom0, after helpers.sh: checks of guests that print `memory: N KiB` when
# they have started and for every line they are told.

told() {
    console "$1" | tr -d '\r' | sed -n 's/^memory: \([0-9]*\) KiB/\1/p' | tail -n 1
}

as_much_as_direct() {
    for form in direct firmware; do
        start $form
        wait_for $form $patience 'guest: ready'
        stop $form
    done
    less=$(($(told direct) - $(told firmware)))
    figure 'memory of a direct guest' "$(told direct) KiB"
    figure 'memory less by the firmware' "$less KiB"
    [ $less -le "$1" ] || fail "$less KiB less than a direct guest, at most $1 expected"
}

# Whether the domain has as many MiB, to the last: that is the balloon's doing.
has() {
    [ "$(xl list "$1" | awk 'NR == 2 { print $3 }')" = "$2" ]
}

# Whether the guest itself knows of no more than so many MiB.
knows() {
    forget "$1"
    type_into "$1" memory
    [ "$(told "$1")" -le $(($2 * 1024)) ]
}

populated_on_demand() {
    start on-demand
    wait_for on-demand $patience 'guest: ready'
    # The guest starts with its maximum and gives back what it has not got.
    eventually 60 knows on-demand "$1" || fail "the guest knows of $(told on-demand) KiB"
    has on-demand "$1" || fail "$(xl list on-demand)"
}

ballooned() {
    timeout 20 xl mem-set on-demand "$1"
    eventually 60 has on-demand "$1" || fail "not $1 MiB: $(xl list on-demand | tail -n 1)"
    knows on-demand "$1" || fail "the guest knows of $(told on-demand) KiB"
    [ "$(told on-demand)" -ge $((($1 - 100) * 1024)) ] || fail "the guest has $(told on-demand) KiB"
}
