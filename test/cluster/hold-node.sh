#!/bin/sh
# Holds the mount namespace of a node, in which nothing of the machine's and of other nodes' can be changed by the node's programs.
# $1 is the node's directory; the file `held` in it says that all is mounted.
set -e
# Shared among the node's own mounts, as kubelet's HostToContainer wants it; private to the machine's.
mount --make-rshared /
umount -R /run/netns 2>/dev/null || true
mkdir -p /run/netns /run/containerd "$1/var" "$1/var-work"
mount -t tmpfs none /run/netns
mount -t tmpfs none /run/containerd
# kubelet, CNI plugins and containerd have directories in /var that no flag moves.
mount -t overlay overlay -o "lowerdir=/var,upperdir=$1/var,workdir=$1/var-work" /var
mount -t bpf none /sys/fs/bpf
: >"$1/held"
exec sleep infinity
