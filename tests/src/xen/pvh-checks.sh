# Runs inside a PVH guest of Xen, as root, in busybox ash. Expects PROCESSORS to
# be set. The first thing that is wrong ends it with status 1.

fail() {
    echo "FAILED: $*"
    exit 1
}

dmesg | grep -q 'kernel on Xen PVH' || fail "the kernel does not know that it is a PVH guest"
[ "$(cat /sys/hypervisor/type)" = xen ] || fail "no Xen in /sys/hypervisor"
[ "$(nproc)" = "$PROCESSORS" ] || fail "$(nproc) processors, expected $PROCESSORS"
line=$(dmesg | grep -m1 -E 'WARNING: CPU|BUG:|Oops') && fail "the kernel complains: $line"
grep -E 'MemTotal|MemAvailable' /proc/meminfo
