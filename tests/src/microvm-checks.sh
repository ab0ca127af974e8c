# Runs inside a guest, as root, in busybox ash. Expects DISKS and NETWORKS to be
# set: which disks and how many network interfaces there have to be. The first
# thing that is wrong ends it with status 1.

fail() {
    echo "FAILED: $*"
    ls -l /sys/bus/virtio/devices /sys/bus/pci/devices
    dmesg | grep -iE 'virtio|pci|nvme|e1000e|irq' | tail -n 60
    exit 1
}

# Within ten seconds: some drivers take their time.
eventually() {
    for second in 1 2 3 4 5 6 7 8 9 10; do
        eval "$1" && return
        sleep 1
    done
    fail "not true: $1"
}

eventually '[ "$(ls -d /sys/bus/platform/drivers/virtio-mmio/LNRO0005:* | wc -l)" -ge 4 ]'
for disk in $DISKS; do
    eventually "[ -b /dev/$disk ]"
    echo "written by the guest" | dd of=/dev/$disk conv=fsync 2>/dev/null || fail "cannot write $disk"
    echo 3 > /proc/sys/vm/drop_caches
    grep -q "written by the guest" /dev/$disk || fail "cannot read $disk"
done
eventually '[ "$(ls -d /sys/class/net/*/device | wc -l)" = "$NETWORKS" ]'
eventually '[ "$(head -c 16 /dev/hwrng | wc -c)" = 16 ]'
eventually '[ -c /dev/hvc0 ]'
complaints="can't assign|failed to assign|no compatible bridge window|BIOS bug|nobody cared"
complaints="$complaints|Firmware Bug|BUG:|WARNING: CPU|not reserved|can't find IRQ|can't claim"
line=$(dmesg | grep -m1 -iE "$complaints") && fail "the kernel complains: $line"
exit 0
