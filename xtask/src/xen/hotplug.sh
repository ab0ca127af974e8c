#!/bin/busybox sh
# What the toolstack runs in dom0 when a device appears or goes. A disk is told
# which block device it is; a network interface gets the first address of its
# guest's network, with nothing behind it.

case "${0##*/} $1" in
'block add')
    device=$(xenstore-read "$XENBUS_PATH/params")
    xenstore-write "$XENBUS_PATH/physical-device" "$(stat -c %t:%T "$device")"
    ;;
'vif-bridge online' | 'vif-bridge add')
    address=$(xenstore-read "$XENBUS_PATH/ip")
    ifconfig "$vif" "${address%.*}.1" netmask 255.255.255.0 up
    ;;
*) exit 0 ;;
esac
xenstore-write "$XENBUS_PATH/hotplug-status" connected
