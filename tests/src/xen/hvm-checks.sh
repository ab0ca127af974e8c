# Runs inside an HVM guest of Xen, as root, in busybox ash, in front of the checks
# that every guest makes. Expects UUID to be set. The first thing that is wrong
# ends it with status 1.

fail() {
    echo "FAILED: $*"
    exit 1
}

dmesg | grep -q 'kernel on Xen HVM' || fail "the kernel does not know that it is an HVM guest"
dmesg | grep -q 'efi:.* ACPI 2.0=0xea020 SMBIOS=0xeb000' || fail "hvmloader's tables are not published"
found=$(cat /sys/class/dmi/id/product_uuid)
[ "$found" = "$UUID" ] || fail "SMBIOS has UUID $found, expected $UUID"
[ -c /dev/hvc0 ] || fail "no PV console"
