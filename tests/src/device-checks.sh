# Runs inside a guest, as root, in busybox ash. Expects MODEL to be set. The
# first thing that is wrong ends it with status 1.

fail() {
    echo "FAILED: $*"
    echo "--- PCI devices and their drivers"
    for device in /sys/bus/pci/devices/*; do
        driver=$(readlink "$device/driver")
        echo "${device##*/} $(cat "$device/vendor") $(cat "$device/device") ${driver##*/}"
    done
    echo "--- kernel log"
    dmesg | grep -iE 'pci|virtio|nvme|ahci|ata|e1000|xhci|usb|irq' | tail -n 120
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

# --- every device has its driver

drivers() {
    # Bound instances of a PCI driver.
    ls -d "/sys/bus/pci/drivers/$1"/0000:* 2>/dev/null | wc -l
}
[ "$MODEL" = q35 ] && expected=7 || expected=6
eventually '[ "$(drivers virtio-pci)" = "$expected" ]'
for driver in nvme e1000e xhci_hcd bochs-drm; do
    eventually "[ \"\$(drivers $driver)\" = 1 ]"
done
eventually '[ "$(drivers ahci)" -ge 1 ]'
if [ "$MODEL" = q35 ]; then
    eventually '[ "$(drivers pcieport)" = 2 ]'
fi

# --- and does its work

for disk in vda sda sdb nvme0n1; do
    eventually "[ -b /dev/$disk ]"
    echo "written by the guest" | dd of=/dev/$disk conv=fsync 2>/dev/null || fail "cannot write $disk"
    echo 3 > /proc/sys/vm/drop_caches
    grep -q "written by the guest" /dev/$disk || fail "cannot read $disk"
done
[ "$MODEL" = q35 ] && expected=3 || expected=2
eventually '[ "$(ls -d /sys/class/net/*/device | wc -l)" = "$expected" ]'
eventually '[ "$(head -c 16 /dev/hwrng | wc -c)" = 16 ]'
eventually '[ -c /dev/hvc0 ]'
eventually 'grep -q "QEMU QEMU USB Keyboard" /proc/bus/input/devices'
eventually '[ -c /dev/dri/card0 ]'

# --- RAM lies below 1 MiB where the firmware's flash was

for address in 0xc0000 0xcc000 0xe8000 0xf0000 0xfff00; do
    before=$(devmem $address 32)
    for value in 0x12345678 0xEDCBA987 $before; do
        devmem $address 32 $value
        [ "$(devmem $address 32)" = $value ] || fail "$address is not writable: $(devmem $address 32)"
    done
done

# --- without a complaint

complaints="can't assign|failed to assign|no compatible bridge window|BIOS bug|nobody cared"
complaints="$complaints|Firmware Bug|BUG:|WARNING: CPU|not reserved|can't find IRQ|can't claim"
line=$(dmesg | grep -m1 -iE "$complaints") && fail "the kernel complains: $line"
echo "$MODEL: all devices work"
exit 0
