# Runs inside a guest of Xen, as root, in busybox ash. The variables' disk is xvdz,
# xvde another one. What it prints last is its memory.

cd /sys/firmware/efi/efivars || exit 1

fail() {
    echo "FAILED: $*"
    exit 1
}

expect() {
    found=$(hexdump -v -e '1/1 "%02x"' "$1")
    [ "$found" = "$2" ] || fail "$1 is $found, expected $2"
}

# Within ten seconds: a device takes its time to connect.
for second in 1 2 3 4 5 6 7 8 9 10; do
    [ -b /dev/xvde ] && [ -b /dev/xvdz ] && break
    sleep 1
done
grep -q ' /sys/firmware/efi/efivars efivarfs ro,' /proc/mounts || fail "efivarfs can be written"
if printf '\7\0\0\0x' > New-cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0; then fail "a variable is written"; fi
dmesg | grep -i -E 'blkfront.*(fail|error)|grant.*(fail|error)' && fail "a complaint about disks"
cp /dev/xvde /tmp/xvde && [ "$(md5sum < /tmp/xvde)" = "$(head -c 1048576 /dev/zero | tr '\0' x | md5sum)" ] ||
    fail "xvde is not as it was"
echo 'written by Linux' | dd of=/dev/xvde conv=fsync 2> /dev/null || fail "cannot write xvde"
dd if=/dev/xvdz bs=4k 2> /dev/null | md5sum
awk '/MemTotal/ { print $2 }' /proc/meminfo
