#!/bin/busybox sh
# What the toolstack runs in dom0 when a device appears or goes. A disk is told
# which block device it is, for a file a loop device; a network interface gets the
# first address of its guest's network, with nothing behind it.

case "${0##*/} $1" in
'block add')
    device=$(xenstore-read "$XENBUS_PATH/params")
    if [ -f "$device" ]; then
        file=$device
        device=$(losetup -f)
        losetup "$device" "$file"
        xenstore-write "$XENBUS_PATH/node" "$device"
    fi
    xenstore-write "$XENBUS_PATH/physical-device" "$(stat -c %t:%T "$device")"
    ;;
'block remove')
    device=$(xenstore-read "$XENBUS_PATH/node") && losetup -d "$device"
    exit 0
    ;;
'vif-bridge online' | 'vif-bridge add')
    address=$(xenstore-read "$XENBUS_PATH/ip")
    ifconfig "$vif" "${address%.*}.1" netmask 255.255.255.0 up
    ;;
*) exit 0 ;;
esac
xenstore-write "$XENBUS_PATH/hotplug-status" connected
