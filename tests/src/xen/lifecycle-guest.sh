# Runs inside a guest of Xen, as root, in busybox ash. Expects EFI to be true or
# false. Uses disk and network, sets a variable, says that it is ready and then
# does what it is told on its console. The first thing that is wrong ends it.

variables=/sys/firmware/efi/efivars
variable=$variables/OvmfLiteTest-cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0

fail() {
    echo "FAILED: $*"
    exit 1
}

# Within ten seconds: a device takes its time to connect.
eventually() {
    for second in 1 2 3 4 5 6 7 8 9 10; do
        "$@" && return
        sleep 1
    done
    fail "not true: $*"
}

disk_works() {
    echo 3 > /proc/sys/vm/drop_caches
    grep -q 'written by the guest' /dev/xvda
}

network_works() {
    ping -c 1 -W 5 10.0.9.1 > /dev/null
}

variable_is_there() {
    # A new mount asks the firmware for the names again.
    umount $variables && mount -t efivarfs efivarfs $variables && [ "$(tail -c +5 $variable)" = kept ]
}

eventually [ -b /dev/xvda ]
echo 'written by the guest' | dd of=/dev/xvda conv=fsync 2> /dev/null || fail "cannot write xvda"
eventually disk_works
eventually ifconfig eth0 10.0.9.2 netmask 255.255.255.0 up
eventually network_works
if $EFI; then
    printf '\7\0\0\0kept' > $variable || fail "cannot create a variable"
    variable_is_there || fail "the variable is not there"
fi
echo 'guest: ready'
while read -r line; do
    case $line in
    hello) echo "heard: $line" ;;
    state)
        eventually disk_works
        eventually network_works
        if $EFI; then variable_is_there || fail "the variable is gone"; fi
        echo "$line: good"
        ;;
    esac
done
