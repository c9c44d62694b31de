#!/usr/bin/env bash
# `npm run test:kernels`: the programs under Debian's LTS kernel. Loads, attaches and exercises every one of them: each packet and
# policy case through test-run, and an engine with pods, processes and plugins on real sockets.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice-kernels
mkdir -p "$cache"
package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\)/\1/p' | head -1)
[ -n "$package" ] || { echo "test:kernels: apt knows no linux-image-amd64; run apt-get update" >&2; exit 1; }
deb=$(find "$cache" -name "${package}_*.deb" | sort | tail -1)
if [ -z "$deb" ]; then
  echo "test:kernels: fetching $package" >&2
  (cd "$cache" && apt-get -q download "$package" >&2)
  deb=$(find "$cache" -name "${package}_*.deb" | sort | tail -1)
fi
echo "test:kernels: under $package, emulated: this takes some minutes" >&2
tests=("${@:-}")
[ $# -gt 0 ] || tests=(test/bpf/endpoint test/bpf/contents test/bpf/names test/bpf/policy-cases test/bpf/verdict test/kernels)
# Emulation is ten times slower than the machine: what a test waits for has that much more time.
exec sh test/kernels/boot.sh "$deb" env PATH="$PWD/node_modules/.bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root CI=true SLUICE_TEST_SLOW=10 \
  vitest run --project kernel "${tests[@]}"
