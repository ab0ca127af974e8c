#!/bin/busybox sh
# The first process of every guest: loads /modules/*.ko in order, then runs
# /command and reports on the second serial port, or else shows what the kernel
# found of EFI and, if there is /interactive, offers a shell. Powers off at the
# end; without ACPI nothing can do that, and a reset ends QEMU as well. A Xen guest
# has one console: there the report stands between two lines on it.

/bin/busybox mkdir -p /bin /sbin /proc /sys /dev /tmp
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=linux

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
for module in /modules/*.ko; do
    insmod "$module"
done
if [ -d /sys/firmware/efi/efivars ]; then
    mount -t efivarfs efivarfs /sys/firmware/efi/efivars
fi

# What the kernel runs when the host asks it to shut down.
for program in poweroff reboot; do
    printf '#!/bin/sh\nexec /bin/%s -f\n' $program > /sbin/$program
    chmod +x /sbin/$program
done

run_command() {
    sh /command
    # The trailer starts with a byte that text does not contain.
    printf '\0exit=%s\n' "$?"
}

show_region() {
    # With efi=debug the kernel also lists boot services code and data, types 3
    # and 4, which it has back long since.
    case $(cat "$1/type") in 0x3 | 0x4) return ;; esac
    printf '  type %s  physical %s  virtual %s  pages %s  attributes %s\n' \
        "$(cat "$1/type")" "$(cat "$1/phys_addr")" "$(cat "$1/virt_addr")" \
        "$(cat "$1/num_pages")" "$(cat "$1/attribute")"
}

show_efi() {
    echo
    echo "The kernel's EFI lines:"
    dmesg | grep -iE '(^|[^a-z])efi' | sed 's/^/  /'
    echo
    echo "What the firmware keeps (/sys/firmware/efi/runtime-map):"
    for region in /sys/firmware/efi/runtime-map/*/; do
        show_region "${region%/}"
    done
    echo
    echo "Variables (/sys/firmware/efi/efivars):"
    ls -l /sys/firmware/efi/efivars
    echo
}

if [ -e /command ] && [ "$(cat /sys/hypervisor/type 2>/dev/null)" = xen ]; then
    dmesg -n 1
    echo 'guest: output'
    sh /command 2>&1
    # The line starts anew whatever the command printed last.
    printf '\nguest: exit=%s\n' "$?"
elif [ -e /command ]; then
    stty -F /dev/ttyS1 raw -echo
    # Closing the port waits until everything is on the wire.
    run_command </dev/null >/dev/ttyS1 2>&1
else
    dmesg -n 4
    show_efi
    if [ -e /interactive ]; then
        echo "A shell in the guest; leave it with exit or Ctrl-D, QEMU with Ctrl-A x."
        setsid cttyhack sh
    fi
fi
sync
[ -d /sys/firmware/acpi/tables ] || reboot -f
poweroff -f
