#!/usr/bin/env bash
# Tries the gateway with clients that we did not write: the SDKs of OpenAI and Anthropic in Python and JavaScript,
# LiteLLM and LangChain as clients, and the Vercel AI SDK, each with the APIs that it speaks (`matrix.py`).
#
#   tests/clients/run.sh
#   tests/clients/run.sh --only ramp      # one check by its name: a client ramps up and sees its limit grow
#
# The engines are simulated ones and a real llama-server (LLAMA_SERVER, or what llama/install.sh brings), which is tried
# with all that it can do. One line per check, the matrix, then `N passed, N failed`.
#
#   TIDEGATE_BIN     the program to try; default: target/release/tidegate, built here
#   LLAMA_SERVER     a llama-server; default: what llama/install.sh brings; `none`: left out
#   LLAMA_MODEL      its model; default: target/llama/tiny.gguf
#   LLAMA_WIDE_MODEL its model for embeddings; default: target/llama/wide.gguf
#
# Everything is on loopback, on free ports, and ends within RUN_SECONDS_MAX; logs are kept in target/clients, with
# clients.json, of which report.py makes the table in README.md.
set -euo pipefail

RUN_SECONDS_MAX=720
# A real engine comes on top.
LLAMA_SECONDS_MAX=420
# The versions that were tried; where one is gone from the registry, the newest is.
PYTHON_SDKS=(openai==3.54.0 anthropic==2.12.0 litellm==1.109.1 langchain-openai==1.7.4 langchain-anthropic==1.7.10)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
house=$(cd "$here/../.." && pwd)
kept=$house/target/clients
python=$kept/venv/bin/python

# The table in README.md is that of the run that is kept.
python3 "$here/report.py" "$here/reports/clients.json" "$here/README.md" --check

mkdir -p "$kept/node"
if ! "$python" -c 'import importlib.metadata as m; [m.version(p) for p in ("openai", "anthropic", "litellm", "langchain-openai", "langchain-anthropic")]' 2>/dev/null; then
  python3 -m venv --clear "$kept/venv"
  "$python" -m pip install --quiet --disable-pip-version-check "${PYTHON_SDKS[@]}" ||
    "$python" -m pip install --quiet --disable-pip-version-check "${PYTHON_SDKS[@]%%==*}"
fi

# Packages lie beside the script that imports them, outside of the sources.
cp "$here/node/speak.mjs" "$kept/node/"
if ! cmp -s "$here/node/package.json" "$kept/node/package.json" || [ ! -d "$kept/node/node_modules" ]; then
  cp "$here/node/package.json" "$kept/node/"
  npm install --prefix "$kept/node" --silent --no-fund --no-audit --no-package-lock
fi

if [ -z "${TIDEGATE_BIN:-}" ]; then
  (cd "$house" && cargo build --release --locked -p gateway --bin tidegate)
  TIDEGATE_BIN=$house/target/release/tidegate
fi

llama=()
if [ -z "${LLAMA_SERVER:-}" ]; then
  "$here/llama/install.sh" >/dev/null
  LLAMA_SERVER=$house/target/llama/bin/llama-server
fi
if [ "$LLAMA_SERVER" != none ]; then
  llama=(--llama-server "$LLAMA_SERVER" --llama-model "${LLAMA_MODEL:-$house/target/llama/tiny.gguf}"
    --llama-wide-model "${LLAMA_WIDE_MODEL:-$house/target/llama/wide.gguf}")
  RUN_SECONDS_MAX=$((RUN_SECONDS_MAX + LLAMA_SECONDS_MAX))
fi

# TERM first: main.py then stops the programs that it started.
PYTHONPATH=$house/tests/programs exec timeout --kill-after=20 "$RUN_SECONDS_MAX" \
  "$python" "$here/main.py" --tidegate "$TIDEGATE_BIN" --node "$kept/node/speak.mjs" --logs "$kept/logs" "${llama[@]}" "$@"
