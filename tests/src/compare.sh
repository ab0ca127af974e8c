# Runs inside a guest, as root, in busybox ash. Prints what the kernel made of
# the machine, one fact a line, with times and counters taken out.

sleep 3
dmesg | sed -E '
    s/^\[ *[0-9.]+\] //
    /Linux version|Command line|Hardware name|clocksource|sched_clock|loops_per_jiffy|BogoMIPS/d
    /efi:|e820|EFI|node +[0-9]|Zone|zone|Memory:|RAMDISK|ACPI: (RSDP|XSDT|RSDT|FACP|DSDT|FACS|APIC|HPET|WAET|MCFG|BGRT|Reserving)/d
    /tsc|Freeing|crng|hash table|Kernel Offset|KASLR|random|percpu|unavailable ranges|nosave/d
    /audit|rcu:|PTP|RTC|rtc_cmos|cert|alg:|EXT4|memory map|calibrat|Calibrat/d
    s/[0-9]+(\.[0-9]+)? *(ms|us|usecs|MHz|MB\/s)/N \2/g
    s/\b(0x)?[0-9a-f]{6,16}\b/X/g
    s/^/log: /' | sort -u
# Each line under the device it belongs to. Numbers only: there is no pci.ids here.
lspci -nvv > /tmp/lspci || exit 1
[ -s /tmp/lspci ] || exit 1
awk '/^[0-9a-f]/ { device = $1 } NF { sub(/^[ \t]+/, ""); print "lspci: " device " " $0 }' /tmp/lspci
sed 's/^/iomem: /' /proc/iomem
awk '{ $2 = ""; print "irq: " $0 }' /proc/interrupts
cat /proc/mtrr | sed 's/^/mtrr: /'
exit 0
