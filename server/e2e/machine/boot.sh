# The first process of a machine, in namespaces of its own: it makes the file system,
# says that it is ready, and from then on buries those whose parents have died.
set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs machine /run
hostname "$1"
for dir in etc tmp usr/local var; do
	mkdir -p "/run/machine/new/$dir" "/run/machine/scratch/$dir"
	mount -t overlay machine -o "lowerdir=/$dir,upperdir=/run/machine/new/$dir,workdir=/run/machine/scratch/$dir" "/$dir"
done
ip link set lo up
echo ready
exec >&-
while :; do
	sleep infinity &
	wait $! || :
done
