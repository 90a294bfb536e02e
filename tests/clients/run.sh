#!/usr/bin/env bash
# Tries the gateway with a client that we did not write: the real OpenAI SDK, in front of engines.
#
#   tests/clients/run.sh
#
# The engines are simulated ones; where a real llama-server is at hand (LLAMA_SERVER, or what llama/build.sh made),
# all that it can do is tried with those as well. One line per check, then `N passed, N failed`.
#
#   TIDEGATE_BIN     the program to try; default: target/release/tidegate, built here
#   LLAMA_SERVER     a llama-server; default: target/llama/bin/llama-server, left out if there is none
#   LLAMA_MODEL      its model; default: target/llama/tiny.gguf
#
# Everything is on loopback, on free ports, and ends within RUN_SECONDS_MAX; logs are kept in target/clients.
set -euo pipefail

RUN_SECONDS_MAX=480
SDK=openai
SDK_VERSION=3.54.0

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
house=$(cd "$here/../.." && pwd)
kept=$house/target/clients
python=$kept/venv/bin/python

mkdir -p "$kept"
if ! "$python" -c "import $SDK" 2>/dev/null; then
  python3 -m venv --clear "$kept/venv"
  "$python" -m pip install --quiet --disable-pip-version-check "$SDK==$SDK_VERSION" ||
    "$python" -m pip install --quiet --disable-pip-version-check "$SDK"
fi

if [ -z "${TIDEGATE_BIN:-}" ]; then
  (cd "$house" && cargo build --release --locked -p gateway --bin tidegate)
  TIDEGATE_BIN=$house/target/release/tidegate
fi

llama=()
server=${LLAMA_SERVER:-$house/target/llama/bin/llama-server}
model=${LLAMA_MODEL:-$house/target/llama/tiny.gguf}
if [ -x "$server" ] && [ -f "$model" ]; then
  llama=(--llama-server "$server" --llama-model "$model")
fi

# TERM first: main.py then stops the programs that it started.
exec timeout --kill-after=20 "$RUN_SECONDS_MAX" \
  "$python" "$here/main.py" --tidegate "$TIDEGATE_BIN" --logs "$kept/logs" "${llama[@]}"
