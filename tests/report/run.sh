#!/usr/bin/env bash
# Opens drills' reports in a real browser: Chromium, driven by Playwright.
#
#   tests/report/run.sh
#
# Plays drills in virtual time, opens their pages and that of a plan on a phone, a tablet and a desk, by day and by night, and
# in print: no error, no request to anywhere, nothing wider than the screen, nothing that axe finds, the conclusion and the
# values under the pointer are those of the figures.
#
#   TIDEGATE_BIN     the program to try; default: target/release/tidegate, built here
#   CHROMIUM         the browser; default: chromium, installed if there is none
#
# One line per check, `N passed, N failed` at the end. Pages and screenshots are kept in target/report.
set -euo pipefail

RUN_SECONDS_MAX=240
PLAYWRIGHT_VERSION=1.65.1
AXE_VERSION=4.14.1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
house=$(cd "$here/../.." && pwd)
kept=$house/target/report

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

"$TIDEGATE_BIN" drill "$house/deploy/drills/noisy-neighbour.yaml" --virtual --out "$kept"
"$TIDEGATE_BIN" drill "$house/deploy/drills/launch-day.yaml" --virtual --out "$kept"
"$TIDEGATE_BIN" drill plan --rate 12 --seconds 60 --attainment 0.9 --seeds 1 --out "$kept"

export CHROMIUM KEPT=$kept
exec timeout --kill-after=20 "$RUN_SECONDS_MAX" node "$here/page.mjs"
