#!/usr/bin/env bash
# Runs the examples of deploy/customers.md, as they stand there, before the real gateway and simulated engines.
#
#   tests/handbook/run.sh
#
#   TIDEGATE_BIN     the program to try; default: target/release/tidegate, built here
#
# One line per check, `N passed, N failed` at the end; within RUN_SECONDS_MAX. Logs are kept in target/handbook.
set -euo pipefail

RUN_SECONDS_MAX=120
# Runs TypeScript as it is.
TSX_VERSION=4.20.6

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
house=$(cd "$here/../.." && pwd)
kept=$house/target/handbook

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm
fi
mkdir -p "$kept"
if [ ! -x "$kept/node_modules/.bin/tsx" ]; then
  echo '{ "private": true }' >"$kept/package.json"
  npm install --prefix "$kept" --no-audit --no-fund --silent "tsx@$TSX_VERSION"
fi

if [ -z "${TIDEGATE_BIN:-}" ]; then
  (cd "$house" && cargo build --release --locked -p gateway --bin tidegate)
  TIDEGATE_BIN=$house/target/release/tidegate
fi

PYTHONPATH=$house/tests/programs exec timeout --kill-after=20 "$RUN_SECONDS_MAX" \
  python3 "$here/main.py" --tidegate "$TIDEGATE_BIN" --house "$house" --logs "$kept/logs" --tsx "$kept/node_modules/.bin/tsx"
