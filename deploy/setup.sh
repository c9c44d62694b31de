#!/usr/bin/env bash
# Brings a fresh Debian 12 machine with Node and npm to where everything builds and runs: system packages, npm packages,
# a BPF file system, the native library, the BPF programs and the example plugins. Does only what is missing. What else is
# wanted is named: `test` adds what tests talk to, `cluster` what real Kubernetes clusters are built with and made of (which `test`
# contains), `bench` the tools that benchmarks compare with, `kernels` what runs tests on other kernels.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

packages=(clang libbpf-dev bpftool make gcc g++ libc6-dev linux-libc-dev python3 iproute2 util-linux curl procps iputils-ping openssl)
cluster=(containerd runc containernetworking-plugins iptables nftables conntrack ethtool socat openssl busybox-static)
# The oldest Go that builds the clusters' programs; a newer one that a module wants comes as a Go module.
go_minor=24
has_go() {
  local go
  for go in go /usr/local/go/bin/go /usr/lib/go-1.*/bin/go; do
    local minor; minor=$(cd / && GOTOOLCHAIN=local "$go" version 2>/dev/null | sed -nE 's/.* go1\.([0-9]+).*/\1/p')
    [ "${minor:-0}" -ge "$go_minor" ] && return 0
  done
  return 1
}
# Debian 12 has a Go of that age in its backports only; of these nothing is installed unless it is named and nowhere else.
add_backports() {
  local codename list=/etc/apt/sources.list.d/backports-for-sluice.list
  codename=$(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")
  [ "$codename" = bookworm ] || return 0
  grep -rqs "$codename-backports" /etc/apt/sources.list /etc/apt/sources.list.d && return 0
  say "adding Debian's backports, for Go 1.$go_minor, in $list"
  printf 'deb http://deb.debian.org/debian %s-backports main\n' "$codename" >"$list"
}
want_go=
for want in "$@"; do
  case $want in
    test) packages+=(dnsmasq-base unbound bind9-dnsutils libclang-rt-14-dev nftables nginx-light nghttp2-client docker-registry "${cluster[@]}"); want_go=1 ;;
    cluster) packages+=("${cluster[@]}"); want_go=1 ;;
    bench) packages+=(iptables ipset nftables dnsmasq-base nginx-light haproxy wrk) ;;
    kernels) packages+=(qemu-system-x86 busybox-static kmod xz-utils) ;;
    *) fail "cannot set up $want: must be test, cluster, bench or kernels" ;;
  esac
done
[ -z "$want_go" ] || has_go || packages+=("golang-1.$go_minor-go")
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || fail "these packages are missing: ${missing[*]}; run as root, or install them"
  command -v apt-get >/dev/null || fail "these packages are missing, and there is no apt-get: ${missing[*]}"
  say "installing ${missing[*]}"
  # Only the programs are wanted: no service is to be started on this machine.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
  fi
  case " ${missing[*]} " in
    *" golang-1.$go_minor-go "*) add_backports ;;
  esac
  log=$(mktemp)
  { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
    { cat "$log" >&2; fail "packages not installed"; }
  rm -f "$log"
  [ -z "$(trap -p EXIT)" ] || rm -f /usr/sbin/policy-rc.d
  trap - EXIT
fi

if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  command -v npm >/dev/null || fail "npm is missing: install Node 22 or 24"
  say "installing npm packages"
  npm ci --no-audit --no-fund --loglevel=error >&2
  touch node_modules/.package-lock.json
fi

if [ "$(id -u)" = 0 ] && [ "$(stat -f -c %T /sys/fs/bpf 2>/dev/null)" != bpf_fs ]; then
  say "mounting a BPF file system on /sys/fs/bpf"
  mount -t bpf bpf /sys/fs/bpf || say "no BPF file system can be mounted here"
fi

PATH="$PWD/node_modules/.bin:$PATH" npm run --silent build >&2
