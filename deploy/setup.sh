#!/usr/bin/env bash
# Brings a fresh Debian 12 machine with Node and npm to where everything builds and runs: system packages, npm packages,
# a BPF file system, the native library, the BPF programs and the example plugins. Does only what is missing. What else is
# wanted is named: `test` adds what tests talk to, `bench` the tools that benchmarks compare with, `kernels` what runs tests on
# other kernels.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

packages=(clang libbpf-dev bpftool make gcc g++ libc6-dev linux-libc-dev python3 iproute2 util-linux curl procps iputils-ping openssl)
for want in "$@"; do
  case $want in
    test) packages+=(dnsmasq-base unbound bind9-dnsutils libclang-rt-14-dev nftables nginx-light nghttp2-client docker-registry) ;;
    bench) packages+=(iptables ipset nftables dnsmasq-base nginx-light haproxy wrk) ;;
    kernels) packages+=(qemu-system-x86 busybox-static kmod xz-utils) ;;
    *) fail "cannot set up $want: must be test, bench or kernels" ;;
  esac
done
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
