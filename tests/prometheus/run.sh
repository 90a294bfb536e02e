#!/usr/bin/env bash
# Tries the rules and the dashboard of deploy/ with the real Prometheus, before the real gateway and simulated engines.
#
#   tests/prometheus/run.sh
#
# First promtool: the rules are well formed, and each alert fires where it should and nowhere else, on recorded
# series. Then the dashboard against Grafana's own types. Then for real: what goes wrong is made to go wrong, and the alerts for it fire. `N passed, N failed` at the
# end.
#
#   TIDEGATE_BIN     the program to try; default: target/release/tidegate, built here
#
# Everything is on loopback, on free ports, and ends within RUN_SECONDS_MAX; logs are kept in target/prometheus/logs.
set -euo pipefail

RUN_SECONDS_MAX=210
GRAFANA_VERSION=13.2.3
TYPESCRIPT_VERSION=7.0.2

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
house=$(cd "$here/../.." && pwd)

kept=$house/target/prometheus

packages=()
command -v prometheus >/dev/null && command -v promtool >/dev/null || packages+=(prometheus)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
if [ "${#packages[@]}" -gt 0 ]; then
  root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

mkdir -p "$kept"
if [ ! -x "$kept/node_modules/.bin/tsc" ]; then
  echo '{ "private": true, "type": "module" }' >"$kept/package.json"
  npm install --prefix "$kept" --no-audit --no-fund --silent "@grafana/schema@$GRAFANA_VERSION" "typescript@$TYPESCRIPT_VERSION"
fi

promtool check config "$house/deploy/prometheus/prometheus.yaml"
promtool test rules "$house/deploy/prometheus/alerts_test.yaml"

if [ -z "${TIDEGATE_BIN:-}" ]; then
  (cd "$house" && cargo build --release --locked -p gateway --bin tidegate)
  TIDEGATE_BIN=$house/target/release/tidegate
fi

PYTHONPATH=$house/tests/programs exec timeout --kill-after=20 "$RUN_SECONDS_MAX" \
  python3 "$here/main.py" --tidegate "$TIDEGATE_BIN" --house "$house" --packages "$kept" --logs "$kept/logs"
