#!/bin/busybox sh
# The first process of dom0: loads /modules/*.ko in order, brings up Xen's
# toolstack, copies what the host shares to /bed/in, runs /bed/in/scenario there
# and powers off. With the word `keep` on the kernel's command line it offers a
# shell on the console before.

/bin/busybox mkdir -p /bin /sbin
/bin/busybox --install -s /bin
read -r toolstack < /bed/toolstack
export PATH=/bin:/usr/bin:$toolstack HOME=/ TERM=linux

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mkdir -p /run/xen /run/xenstored /var/lib/xenstored /var/lock /bed/in
ln -sfn /run /var/run
mount -t tmpfs -o size=80% tmpfs /bed/in

say() {
    # One line on the hypervisor's serial port.
    echo "bed: $*" > /dev/console
}

give_up() {
    say "FAILED: $*"
    poweroff -f
}

for module in /modules/*.ko; do
    insmod "$module" || say "module ${module##*/} does not load"
done
mount -t xenfs xenfs /proc/xen || give_up "there is no /proc/xen: dom0 does not run on Xen"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 host /share ||
    give_up "the directory of the host cannot be mounted"
mkdir -p /share/out/console /share/out/steps /share/out/log /var/log
ln -sfn /share/out/log /var/log/xen
cp -r /share/in/. /bed/in &
copying=$!

xenstored --pid-file /run/xenstored.pid || give_up "xenstored does not start"
xen-init-dom0 > /dev/null || give_up "xen-init-dom0 fails"
xenconsoled --log=guest --log-dir=/share/out/console --pid-file=/run/xenconsoled.pid
wait $copying || give_up "the files of the host cannot be copied"
say "ready after $(cut -d ' ' -f 1 /proc/uptime) s"

cd /bed/in
if [ -e scenario ]; then
    sh scenario > /share/out/scenario.log 2>&1 < /dev/null
    echo $? > /share/out/status
fi
if grep -qw keep /proc/cmdline; then
    cat /bed/in/greeting
    setsid cttyhack sh
fi
xl dmesg > /share/out/xl-dmesg 2>&1
sync
say "done"
poweroff -f
