# Runs in an HVM guest of Xen, as root, in busybox ash: what is kept in dom0, in
# front of the checks that every guest makes.

fail() {
    echo "FAILED: $*"
    exit 1
}

cd /sys/firmware/efi/efivars || fail "efivarfs is not mounted"
# The application's, in another domain before.
found=$(tail -c +5 Runtime-1d3b7c52-8e0f-4a96-b127-65fa309ce84b)
[ "$found" = runtime ] || fail "what was kept reads \`$found\`"
printf '\7\0\0\0kept' > FromLinux-cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0 ||
    fail "cannot create a variable to be kept"
cd /
