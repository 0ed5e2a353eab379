#!/bin/busybox sh
# The guest's first process: puts its file system together, runs the command of /settings, tells its status, powers off.
# Root: the host's own file system (9p) or an image, read-only, with what is written kept in memory above it. What Python
# reads by the thousand comes from an image as well, since each look at a file over 9p takes a millisecond here.
/bin/busybox --install -s /bin
export PATH=/bin
. /settings # ROOT, HOT, WORK, COMPILED, COMMAND

die() { echo "init: $*"; echo o >/proc/sysrq-trigger; sleep 60; }

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module" 2>/dev/null; done
nine=trans=virtio,version=9p2000.L,msize=512000
mount -t ext4 -o ro /dev/vda /hot || die "no image"
case $ROOT in
host) mount -t 9p -o "ro,$nine,cache=loose" root /lower ;;
*) mount -t ext4 -o ro "$ROOT" /lower ;;
esac || die "no root"
mount -t tmpfs upper /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /new || die "no overlay"
for folder in $HOT; do
	mkdir -p "/new$folder"
	mount -o bind "/hot$folder" "/new$folder"
done
mkdir -p "/new$WORK" /new/proc /new/sys /new/dev
mount -t 9p -o "$nine,cache=none" work "/new$WORK" || die "no place for results"
mkdir -p /new/var/cache/autoinstr
mount -o bind "/new$COMPILED" /new/var/cache/autoinstr
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t tracefs tracing /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
mount -o rbind /proc /new/proc
mount -o rbind /sys /new/sys
mount -o rbind /dev /new/dev
cd "/new$WORK"
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 TEST_SLOWNESS=15 \
	chroot /new sh -c "cd $WORK && exec $COMMAND" >out.txt 2>&1 </dev/null
echo $? >status
sync
echo o >/proc/sysrq-trigger
sleep 60
