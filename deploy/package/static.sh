#!/usr/bin/env bash
# A program that needs no library of the machine that it runs on, for machines with an older libc, or with none.
#
#   deploy/package/static.sh FOLDER      # puts `tidegate` there
#
#   PROFILE     dist (default), or release, which is faster to build and larger
#
# Linked with musl where rustup has that target (`rustup target add x86_64-unknown-linux-musl`, and musl-tools for its C
# compiler), else with this machine's glibc. With glibc names are looked up in /etc/hosts and by DNS, as /etc/resolv.conf
# says; other sources of nsswitch.conf are modules, which a static program does not load well. Needs gcc and make.
set -euo pipefail

mkdir -p "$1"
folder=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

profile=${PROFILE:-dist}
machine=$(uname -m)
if [ -d "$(rustc --print sysroot)/lib/rustlib/$machine-unknown-linux-musl" ] && command -v musl-gcc >/dev/null; then
  target=$machine-unknown-linux-musl
else
  target=$machine-unknown-linux-gnu
fi
# With --target, since what runs while building (macros of crates) cannot be static.
RUSTFLAGS='-C target-feature=+crt-static' \
  cargo build --profile "$profile" --locked -p gateway --bin tidegate --features jemalloc --target "$target"
install -m 755 "target/$target/$profile/tidegate" "$folder/tidegate"
strip "$folder/tidegate"
if ldd "$folder/tidegate" 2>/dev/null | grep -q '=>'; then
  echo "$folder/tidegate needs libraries:" >&2
  ldd "$folder/tidegate" >&2
  exit 1
fi
echo "$folder/tidegate: $target, $(stat -c %s "$folder/tidegate") bytes"
