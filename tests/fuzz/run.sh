#!/usr/bin/env bash
# Looks for inputs for which a property of a reader does not hold, guided by coverage.
#
#   tests/fuzz/run.sh                    every target, 600 s each
#   tests/fuzz/run.sh 60                 every target, 60 s each
#   tests/fuzz/run.sh 60 request stream  these
#   tests/fuzz/run.sh play request FILE  one input
#   tests/fuzz/run.sh keep               keeps what reached code that nothing else reaches, as tests/fuzz/corpus/TARGET.hex
#
# libFuzzer on the toolchain of `rust-toolchain.toml`: the coverage counters that it needs are stable options of the
# compiler. Without a sanitizer, which would need another toolchain; there is no unsafe code in what is tried. Takes a C++
# compiler. What is found goes to target/fuzz/TARGET, an input that breaks something to target/fuzz/TARGET-found, and then
# the exit code is 1.
set -euo pipefail

SECONDS_DEFAULT=600
# Longest input, bytes; most memory, MiB; longest run of one input, s.
LENGTH_MAX=16384
MEMORY_MAX=2048
RUN_MAX=10

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=target/fuzz
mkdir -p "$work"

counters='-Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
  -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks'
triple=$(rustc -vV | sed -n 's/^host: //p')
# A target of its own keeps the options from build scripts, and these programs from all others.
RUSTFLAGS=$(echo "$counters" | tr '\n' ' ') cargo build --release --locked --quiet \
  -p fuzz --features libfuzzer --bin fuzz --target "$triple" --target-dir "$work/build"
program=$work/build/$triple/release/fuzz

names() { sed -n 's/^ *name: "\([a-z]*\)",$/\1/p; s/.*Target { name: "\([a-z]*\)".*/\1/p' tests/fuzz/src/lib.rs; }

if [ "${1:-}" = play ]; then
  FUZZ_TARGET=$2 exec "$program" "$3"
fi
seeds() { cargo run --quiet --locked -p fuzz --example seeds -- "$@"; }

if [ "${1:-}" = keep ]; then
  for target in $(names); do
    rm -rf "$work/$target-kept" && mkdir -p "$work/$target-kept"
    FUZZ_TARGET=$target "$program" -set_cover_merge=1 "$work/$target-kept" "$work/$target" \
      >"$work/$target.log" 2>&1
    seeds keep "$target" "$work/$target-kept"
    printf 'kept  %s: %s inputs\n' "$target" "$(wc -l <"tests/fuzz/corpus/$target.hex")"
  done
  exit
fi

seconds=${1:-$SECONDS_DEFAULT}
shift || true
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || mapfile -t targets < <(names)

failed=0
for target in "${targets[@]}"; do
  mkdir -p "$work/$target" "$work/$target-found"
  # The seeds are those of the replay.
  seeds write "$target" "$work/$target"
  if FUZZ_TARGET=$target "$program" "$work/$target" \
    -max_total_time="$seconds" -max_len=$LENGTH_MAX -rss_limit_mb=$MEMORY_MAX -timeout=$RUN_MAX -verbosity=0 \
    -print_final_stats=1 -artifact_prefix="$work/$target-found/" >"$work/$target.log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")
    printf 'ok    %s: %s inputs in %s s, %s kept\n' "$target" "$runs" "$seconds" "$(ls "$work/$target" | wc -l)"
  else
    failed=1
    printf 'FAIL  %s: %s\n' "$target" "$(ls "$work/$target-found" | head -1)"
    grep -E 'panicked|ERROR' -A3 "$work/$target.log" | head -20
  fi
done
exit $failed
