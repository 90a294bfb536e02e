#!/usr/bin/env bash
# Tries the console in a real browser, before the real gateway with simulated engines and traffic.
#
#   tests/console/run.sh
#   tests/console/run.sh --states FOLDER [--only NAME,NAME]
#
# Chromium, driven by Playwright: every number on the page is the API's, the charts are drawn, what an operator can do works, a
# keyboard is enough, a screen reader finds its way (axe), nothing is fetched from elsewhere, what clients send stays text. Then,
# before a gateway with 200 deployments and 10,000 accounts: the bytes of the page and the time to its first picture.
#
# With --states, instead of all that: pictures of every view in calm, overload, half of the replicas lost, a drain, pressure, no
# data, nothing that ever answered, and long names, each at three widths in light and dark, into FOLDER. About ten minutes.
#
#   TIDEGATE_BIN     the program to try; default: target/release/tidegate, built here
#   CHROMIUM         the browser; default: chromium, installed if there is none
#
# One line per check, `N passed, N failed` at the end of both parts; within RUN_SECONDS_MAX. Screenshots and logs are kept in
# target/console.
set -euo pipefail

RUN_SECONDS_MAX=420
STATES_SECONDS_MAX=1200
PLAYWRIGHT_VERSION=1.65.1
AXE_VERSION=4.14.1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
house=$(cd "$here/../.." && pwd)
kept=$house/target/console

packages=()
[ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || packages+=(chromium)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
if [ "${#packages[@]}" -gt 0 ]; then
  root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
CHROMIUM=${CHROMIUM:-$(command -v chromium)}

mkdir -p "$kept"
if [ ! -d "$kept/node_modules/playwright-core" ] || [ ! -d "$kept/node_modules/axe-core" ]; then
  echo '{ "private": true }' >"$kept/package.json"
  npm install --prefix "$kept" --no-audit --no-fund --silent "playwright-core@$PLAYWRIGHT_VERSION" "axe-core@$AXE_VERSION"
fi

if [ -z "${TIDEGATE_BIN:-}" ]; then
  (cd "$house" && cargo build --release --locked -p gateway --bin tidegate)
  TIDEGATE_BIN=$house/target/release/tidegate
fi

most=$RUN_SECONDS_MAX
[ "${1:-}" != --states ] || most=$STATES_SECONDS_MAX
PYTHONPATH=$house/tests/programs exec timeout --kill-after=20 "$most" \
  python3 "$here/main.py" --tidegate "$TIDEGATE_BIN" --logs "$kept/logs" --chromium "$CHROMIUM" --packages "$kept" "$@"
