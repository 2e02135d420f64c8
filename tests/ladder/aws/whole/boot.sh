#!/bin/bash
# A machine of the counterpart's EC2 boots, in namespaces of its own. What the image holds is this computer's, except for what
# is made here; what user data writes stays on the machine's disk. The first time, user data is executed; from then on only what
# is enabled is started.
#
#   boot.sh <directory>      the directory holds `user-data` and `systemctl`, and `disk` from the first boot on
#
# Says "up" on standard output once the namespaces are there, and reads its address and its router from standard input.
set -euo pipefail
given=$1 disk=$1/disk
echo up
exec 1>&2
read -r address router

ip link set lo up
ip address add "$address/32" dev eth0
ip link set eth0 up
ip route add "$router" dev eth0
ip route add default via "$router" src "$address"

first=no
if [ ! -d "$disk" ]; then
    first=yes
    # The program is not in the image: user data fetches it.
    mkdir -p "$disk"/usr/local/{bin,sbin} "$disk/var/lib/cloud/instance/scripts"
    cp -a /etc "$disk/etc"
    mkdir -p "$disk/etc/systemd/system"
    install -m 0755 "$given/systemctl" "$disk/usr/local/sbin/systemctl"
    install -m 0700 "$given/user-data" "$disk/var/lib/cloud/instance/scripts/part-001"
fi
for own in /etc /var/lib /usr/local; do mount --bind "$disk$own" "$own"; done
mount -t tmpfs -o mode=0755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
hostname machine

cd /
if [ "$first" = yes ]; then
    # As cloud-init runs it (cloudinit/config/cc_scripts_user.py): the file itself, as root.
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        /var/lib/cloud/instance/scripts/part-001 </dev/null && echo "user data: done" || echo "user data: FAILED ($?)"
else
    systemctl boot
fi
# The first process buries orphans, as bash does while it waits.
sleep infinity &
wait
