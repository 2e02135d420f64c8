#!/bin/bash
# One machine of the counterpart's EC2, in namespaces of its own: plugged in, then first boot. What the image holds is this
# computer's, except for what is made here; what user data writes stays in here.
#
#   boot.sh <directory>      the directory holds `user-data` and `systemctl`
#
# Says "up" on standard output once the namespaces are there, and reads its address and its router from standard input.
set -euo pipefail
given=$1
echo up
exec 1>&2
read -r address router

ip link set lo up
ip address add "$address/32" dev eth0
ip link set eth0 up
ip route add "$router" dev eth0
ip route add default via "$router" src "$address"

mount -t tmpfs -o mode=0755 disk /mnt
cp -a /etc /mnt/etc
for own in /var/lib /usr/local; do mkdir -p "/mnt$own"; done
mkdir -p /mnt/usr/local/{bin,sbin} /mnt/var/lib/cloud/instance/scripts /mnt/etc/systemd/system
# It is not in the image: user data fetches it.
rm -f /mnt/etc/systemd/system/kagero-agent.service
install -m 0755 "$given/systemctl" /mnt/usr/local/sbin/systemctl
install -m 0700 "$given/user-data" /mnt/var/lib/cloud/instance/scripts/part-001
for own in /etc /var/lib /usr/local; do mount --bind "/mnt$own" "$own"; done
mount -t tmpfs -o mode=0755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
hostname machine

# As cloud-init runs it (cloudinit/config/cc_scripts_user.py): the file itself, as root.
cd /
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /var/lib/cloud/instance/scripts/part-001 </dev/null && echo "user data: done" || echo "user data: FAILED ($?)"
# The first process buries orphans, as bash does while it waits.
sleep infinity &
wait
