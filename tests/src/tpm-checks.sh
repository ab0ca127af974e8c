# Runs inside a guest, as root, in busybox ash. The first thing that is wrong ends
# it with status 1.

fail() {
    echo "FAILED: $*"
    ls -l /dev/tpm* /sys/class/tpm /sys/firmware/acpi/tables
    dmesg | grep -i tpm
    exit 1
}

[ -e /sys/firmware/acpi/tables/TPM2 ] || fail "no TPM2 table"
[ -c /dev/tpm0 ] || fail "no TPM"
version=$(cat /sys/class/tpm/tpm0/tpm_version_major)
[ "$version" = 2 ] || fail "version $version"

# TPM2_GetRandom of 8 bytes (TPM 2.0 Library, part 3 §16.1): header of 10 bytes
# with response code 0, size, bytes.
exec 3<>/dev/tpm0
printf '\200\001\000\000\000\014\000\000\001\173\000\010' >&3
answer=$(dd bs=64 count=1 <&3 2>/dev/null | hexdump -v -e '1/1 "%02x"')
case $answer in
    800100000014000000000008????????????????) ;;
    *) fail "TPM2_GetRandom: $answer" ;;
esac
# PCR 0 has been reset by TPM2_Startup, and nobody measured into it.
pcr=$(cat /sys/class/tpm/tpm0/pcr-sha256/0)
[ "$pcr" = 0000000000000000000000000000000000000000000000000000000000000000 ] || fail "PCR 0: $pcr"
line=$(dmesg | grep -iE 'tpm.*(bug|fail|timeout|unable)') && fail "the kernel complains: $line"
dmesg | grep -i tpm
exit 0
