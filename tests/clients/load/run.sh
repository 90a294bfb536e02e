#!/usr/bin/env bash
# Lets a load tool that we did not write measure the gateway: GuideLLM, before two simulated replicas of an 8B model.
#
#   tests/clients/load/run.sh [FOLDER]      # FOLDER: where the report goes, default target/clients/guidellm
#
# Once at a load that the replicas can serve, once at more than they can. The report of each run is what GuideLLM
# measured, trimmed, beside what the gateway counted of the same requests; `../reports/guidellm.md` was made so.
#
#   TIDEGATE_BIN     the program to try; default: target/release/tidegate, built here
#
# By hand, not in CI: GuideLLM comes with torch, some gigabytes. Everything is on loopback and ends within RUN_SECONDS_MAX.
set -euo pipefail

RUN_SECONDS_MAX=420
GUIDELLM=guidellm==0.8.1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
house=$(cd "$here/../../.." && pwd)
kept=$house/target/guidellm
report=${1:-$house/target/clients/guidellm}
python=$kept/venv/bin/python

if ! [ -x "$kept/venv/bin/guidellm" ]; then
  python3 -m venv --clear "$kept/venv"
  "$python" -m pip install --quiet --disable-pip-version-check "$GUIDELLM" tokenizers
fi
# GuideLLM counts prompts itself and wants a tokenizer's folder for that: one of our own, so that nothing is fetched.
[ -f "$kept/tiny/config.json" ] || "$python" "$here/../engines/tiny_model.py" "$kept/tiny"

if [ -z "${TIDEGATE_BIN:-}" ]; then
  (cd "$house" && cargo build --release --locked -p gateway --bin tidegate)
  TIDEGATE_BIN=$house/target/release/tidegate
fi

PYTHONPATH=$house/tests/programs exec timeout --kill-after=20 "$RUN_SECONDS_MAX" \
  "$python" "$here/main.py" --tidegate "$TIDEGATE_BIN" --guidellm "$kept/venv/bin/guidellm" --tokenizer "$kept/tiny" \
  --logs "$kept/logs" --report "$report"
