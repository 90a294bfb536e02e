#!/usr/bin/env bash
# Installs a real llama-server, and makes tiny models for it, to try the gateway against an engine that we did not write.
#
#   tests/clients/llama/install.sh
#
# The engine comes compiled from the package index: xllamacpp carries llama.cpp with its whole HTTP server. Everything is
# kept in target/llama; what is there already is not made again:
#
#   target/llama/bin/llama-server                # takes the options of llama-server that are used here, see serve.py
#   target/llama/tiny.gguf                       # two layers of random weights, 2.5 MB: nonsense, quickly
#   target/llama/wide.gguf                       # vectors of 2,048 numbers: large answers to small requests
#
# Needs python3 with venv. 400 MB of disk, and a minute.
set -euo pipefail

PACKAGES=(xllamacpp==2026.10.11549 gguf numpy tokenizers)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kept=$(cd "$here/../../.." && pwd)/target/llama
python=$kept/venv/bin/python
mkdir -p "$kept/bin"

if ! "$python" -c 'import gguf, tokenizers, xllamacpp' 2>/dev/null; then
  python3 -m venv --clear "$kept/venv"
  # Where the version that was tried is gone from the index, the newest is taken.
  "$python" -m pip install --quiet --disable-pip-version-check "${PACKAGES[@]}" ||
    "$python" -m pip install --quiet --disable-pip-version-check "${PACKAGES[@]%%==*}"
fi

# model NAME OPTION...: made under another name and then renamed, so that a broken file is never taken for the model.
model() {
  local name=$1
  shift
  [ -f "$kept/$name.gguf" ] && return
  "$python" "$here/tiny_gguf.py" "$kept/$name.gguf.new" "$@"
  mv "$kept/$name.gguf.new" "$kept/$name.gguf"
}
model tiny
model wide --hidden 2048 --layers 1

printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$python" "$here/serve.py" >"$kept/bin/llama-server.new"
chmod +x "$kept/bin/llama-server.new"
mv "$kept/bin/llama-server.new" "$kept/bin/llama-server"

echo "$kept/bin/llama-server"
echo "$kept/tiny.gguf"
echo "$kept/wide.gguf"
