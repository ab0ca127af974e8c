# Runs inside a guest, as root, in busybox ash. The first thing that is wrong ends
# it with status 1.

fail() {
    echo "FAILED: $*"
    ls -l /sys/bus/pci/devices
    dmesg | grep -iE 'pci|virtio|slot|hotplug|irq' | tail -n 100
    exit 1
}

# Within thirty seconds: PCIe waits five for a button to be pressed again.
eventually() {
    for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        eval "$1" && return
        sleep 1
    done
    fail "not true: $1"
}

# All memory BARs of a device have an address: the first six of its resources
# that have IORESOURCE_MEM set (Linux, include/linux/ioport.h).
assigned() {
    count=0
    head -n 6 "$1/resource" > /tmp/resource
    while read -r start end flags; do
        [ $((flags & 0x200)) = 0 ] && continue
        [ "$start" = 0x0000000000000000 ] && fail "a BAR of $1 has no address"
        count=$((count + 1))
    done < /tmp/resource
    [ $count -gt 0 ] || fail "$1 has no memory BAR"
}
by_id() {
    grep -l "$1" /sys/bus/pci/devices/*/device | head -n 1 | sed 's,/device$,,'
}

[ -b /dev/vda ] && fail "the disk is there already"
echo "hot-plug: ready" > /dev/console
eventually '[ -b /dev/vda ]'
echo "written by the guest" | dd of=/dev/vda conv=fsync 2>/dev/null || fail "cannot write vda"
echo 3 > /proc/sys/vm/drop_caches
grep -q "written by the guest" /dev/vda || fail "cannot read vda"
eventually '[ "$(ls -d /sys/class/net/*/device | wc -l)" = 1 ]'
# Inter-VM shared memory: 1af4:1110.
eventually '[ -n "$(by_id 0x1110)" ]'
assigned "$(readlink -f /sys/block/vda/device/..)"
assigned "$(readlink -f /sys/class/net/eth0/device/..)"
assigned "$(by_id 0x1110)"

echo "hot-plug: used" > /dev/console
eventually '[ ! -b /dev/vda ]'
complaints="can't assign|failed to assign|no compatible bridge window|BIOS bug|nobody cared"
complaints="$complaints|Firmware Bug|BUG:|WARNING: CPU|not reserved|can't find IRQ|can't claim"
line=$(dmesg | grep -m1 -iE "$complaints") && fail "the kernel complains: $line"
exit 0
