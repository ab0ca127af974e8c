# Runs inside a guest, as root, in busybox ash. Expects MEMORY_KIB, PROCESSORS,
# TABLES and FLAG to be set, the last two to the configuration tables that the
# host gives and a word that the processor's flags have to have. Prints figures;
# the first thing that is wrong ends it with status 1.

fail() {
    echo "FAILED: $*"
    exit 1
}

# --- what the kernel was told at boot

dmesg > /tmp/dmesg
[ -d /sys/firmware/efi ] || fail "the kernel was not started through EFI"
# QEMU's own tables are of ACPI 1.0: whether there are newer ones is its choice.
for table in ACPI SMBIOS; do
    found=no expected=no
    grep -qE "efi:.* $table( [23].0)?=" /tmp/dmesg && found=yes
    case " $TABLES " in *" $table "*) expected=yes ;; esac
    [ $found = $expected ] || fail "$table configuration table: $found, expected $expected"
done
for bad in 'Firmware Bug' 'Unable to switch EFI' 'WARNING: CPU' 'BUG:' 'Oops'; do
    line=$(grep -m1 "$bad" /tmp/dmesg) && fail "the kernel complains: $line"
done
found=$(nproc)
[ "$found" = "$PROCESSORS" ] || fail "$found processors, expected $PROCESSORS"
grep -qw "$FLAG" /proc/cpuinfo || fail "the processor has no $FLAG"

# --- what the firmware keeps: one region of at most 128 KiB, and the page of the
# registers that reset the machine where they lie in memory (type 11)

set --
for region in /sys/firmware/efi/runtime-map/*/; do
    if [ "$(cat "$region/type")" = 0xb ]; then
        [ "$(cat "$region/num_pages")" = 0x1 ] || fail "$region has more than one page"
    else
        set -- "$@" "$region"
    fi
done
[ $# = 1 ] && [ -d "$1" ] || fail "$# runtime regions, expected 1: $*"
runtime_kib=$(($(cat "$1/num_pages") * 4))
echo "runtime region: $runtime_kib KiB at $(cat "$1/phys_addr")"
[ "$runtime_kib" -le 128 ] || fail "the runtime region has more than 128 KiB"

# --- what the guest gets: all but 1 MiB and the runtime region

usable=0
# Linux 7 says "System RAM" where older versions say "usable".
pattern='s/.*BIOS-e820: \[mem \(0x[0-9a-f]*\)-\(0x[0-9a-f]*\)\] *\(usable\|System RAM\)$/\1,\2/p'
for range in $(sed -n "$pattern" /tmp/dmesg); do
    usable=$((usable + ${range#*,} - ${range%,*} + 1))
done
missing_kib=$((MEMORY_KIB - usable / 1024))
echo "usable memory: $((usable / 1024)) KiB of $MEMORY_KIB KiB, missing $missing_kib KiB"
[ "$missing_kib" -le $((1024 + runtime_kib)) ] || fail "the firmware took $missing_kib KiB"
[ "$missing_kib" -ge 0 ] || fail "the firmware gave more memory than there is"

# --- variables, through SetVirtualAddressMap and efivarfs

# Linux lets variables of its crash GUID be removed without ceremony
# (fs/efivarfs/vars.c).
variables=/sys/firmware/efi/efivars
name=OvmfLiteTest-cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0
variable=$variables/$name
content() {
    hexdump -v -e '1/1 "%02x"' "$variable"
}
grep -q "$variables" /proc/mounts || fail "efivarfs is not mounted"
printf '\7\0\0\0one' > "$variable" || fail "cannot create a variable"
[ "$(content)" = 070000006f6e65 ] || fail "created variable reads $(content)"
# EFI_VARIABLE_APPEND_WRITE is 0x40; it is no attribute of the variable.
printf '\107\0\0\0two' > "$variable" || fail "cannot append to a variable"
[ "$(content)" = 070000006f6e6574776f ] || fail "appended variable reads $(content)"
printf '\7\0\0\0new' > "$variable" || fail "cannot replace a variable"
[ "$(content)" = 070000006e6577 ] || fail "replaced variable reads $(content)"
# A new mount asks the firmware for the names again.
umount "$variables" && mount -t efivarfs efivarfs "$variables" || fail "cannot mount efivarfs again"
[ "$(content)" = 070000006e6577 ] || fail "the variable is gone after mounting again"
rm "$variable" || fail "cannot delete a variable"
umount "$variables" && mount -t efivarfs efivarfs "$variables" || fail "cannot mount efivarfs again"
[ -e "$variable" ] && fail "the variable is back after its deletion"
echo "variables: created, read, appended, replaced, listed, deleted"
line=$(dmesg | grep -m1 -E 'Firmware Bug|WARNING: CPU|BUG:') && fail "the kernel complains: $line"
exit 0
