#!/bin/sh
# Runs one command under another kernel: boot.sh DEB COMMAND [ARG...]. DEB is a Debian kernel package, the plain -amd64 flavour,
# for the -cloud one has no 9p. The guest sees this machine's file system, and what it writes is lost with it.
#
# An initramfs of busybox and the modules for 9p and overlayfs mounts / read-only under a tmpfs; further modules come from
# the package when the kernel asks for them. ttyS0 is the kernel's log, ttyS1 the command's output, ttyS2 its exit status.
set -eu
[ $# -ge 2 ] || { echo "usage: boot.sh DEB COMMAND [ARG...]" >&2; exit 2; }
deb=$(realpath "$1")
shift
limit=${LIMIT_SECONDS:-1800}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

dpkg -x "$deb" "$work"
release=$(basename "$work"/lib/modules/*)
depmod -b "$work" "$release"

mkdir -p "$work/ramfs/bin" "$work/ramfs/modules" "$work/job"
cp "$(command -v busybox)" "$work/ramfs/bin/busybox"
position=100
for module in virtio_pci 9pnet_virtio 9p overlay; do
	modprobe -d "$work" -S "$release" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
	cp "$file" "$work/ramfs/modules/$position-$(basename "$file")"
	position=$((position + 1))
done

cat >"$work/ramfs/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mkdir -p /usr/bin /usr/sbin /sbin /proc /low /up /new
/bin/busybox --install -s
mount -t proc proc /proc
for module in /modules/*; do insmod "$module"; done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /low
mount -t tmpfs tmpfs /up
mkdir /up/upper /up/work
mount -t overlay -o lowerdir=/low,upperdir=/up/upper,workdir=/up/work overlay /new
mount --move /proc /new/proc
exec switch_root /new /bin/sh -c "$(cat /stage2)"
INIT
cat >"$work/ramfs/stage2" <<'STAGE2'
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb NO_COLOR=1
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
for directory in /dev/shm /run; do mount -t tmpfs tmpfs "$directory"; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mkdir -p /lib/modules /run/job
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose modules /lib/modules
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000 job /run/job
ln -s /proc/self/fd /dev/fd
ip link set lo up
stty raw -F /dev/ttyS1
setsid sh /run/job/command </dev/null >/dev/ttyS1 2>&1
echo $? >/dev/ttyS2
sync
echo o >/proc/sysrq-trigger
sleep 60
STAGE2
chmod +x "$work/ramfs/init"
(cd "$work/ramfs" && find . | busybox cpio -o -H newc 2>/dev/null) >"$work/initrd"

# Decompressed here rather than in the emulated machine, which enters the ELF image through its PVH note. Where the compressed
# image lies is in the header of the boot protocol (Documentation/arch/x86/boot.rst).
image=$work/boot/vmlinuz-$release
header() { od -An -tu"$2" -j"$1" -N"$2" "$image"; }
start=$((($(header 497 1) + 1) * 512 + $(header 584 4)))
tail -c +$((start + 1)) "$image" | head -c "$(($(header 588 4) - 4))" | xz -dc >"$work/vmlinux" 2>/dev/null || cp "$image" "$work/vmlinux"

quote() { printf "'%s' " "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
{
	echo "cd $(quote "$PWD") || exit 125"
	for argument; do quote "$argument"; done
	echo
} >"$work/job/command"

share() { echo "-virtfs local,mount_tag=$1,path=$2,security_model=none,multidevs=remap,readonly=on"; }
# Without memory protection keys: V8 checks its code pages by them, and fails under emulation.
# shellcheck disable=SC2046 # the shares are lists of options
timeout --foreground "$limit" qemu-system-x86_64 \
	-machine q35,accel=tcg -cpu max,-pku -smp 2 -m 4000 \
	-nodefaults -no-user-config -display none -no-reboot \
	-kernel "$work/vmlinux" -initrd "$work/initrd" -append "console=ttyS0 panic=-1" \
	-serial file:"$work/log" -serial stdio -serial file:"$work/status" \
	$(share root /) $(share modules "$work/lib/modules") $(share job "$work/job") </dev/null || true

status=$(tr -dc 0-9 <"$work/status" 2>/dev/null || true)
if [ -z "$status" ]; then
	tail -n 30 "$work/log" >&2
	echo "boot: the kernel stopped early, or did not end within $limit s" >&2
	exit 125
fi
exit "$status"
