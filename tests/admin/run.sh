#!/usr/bin/env bash
# Tries the admin API with requests made from its own OpenAPI document, by schemathesis: every answer must be one that is
# described, none may be a 5xx, wrong methods and missing tokens must be refused.
#
#   tests/admin/run.sh
#
#   TIDEGATE_BIN     the program to try; default: target/release/tidegate, built here
#
# Before a gateway of its own without model servers, on loopback and free ports; ends within RUN_SECONDS_MAX. The log is
# kept in target/admin-api. The last line is `N passed, N failed`.
set -euo pipefail

RUN_SECONDS_MAX=150
# Requests for each operation and phase: enough to meet every field's bounds, few enough for the time.
EXAMPLES=15
SCHEMATHESIS_VERSION=4

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
house=$(cd "$here/../.." && pwd)
kept=$house/target/admin-api

mkdir -p "$kept"
if [ ! -x "$kept/venv/bin/schemathesis" ]; then
  python3 -m venv --clear "$kept/venv"
  "$kept/venv/bin/python" -m pip install --quiet --disable-pip-version-check "schemathesis==$SCHEMATHESIS_VERSION.*"
fi
if [ -z "${TIDEGATE_BIN:-}" ]; then
  (cd "$house" && cargo build --release --locked -p gateway --bin tidegate)
  TIDEGATE_BIN=$house/target/release/tidegate
fi

token=tg-admin-under-test
rm -rf "$kept/state"
printf '%s' "$token" >"$kept/token"
cat >"$kept/config.yaml" <<YAML
listen: { address: "127.0.0.1:0", shutdown: { lame_duck_ms: 0, grace_ms: 1000 } }
admin: { address: "127.0.0.1:0", token_file: token }
state: { dir: state }
log: { access: off, level: warn, format: json }
deployments: [{ name: sim, replicas: ["http://127.0.0.1:9", "http://127.0.0.1:19"] }]
models: [{ name: sim, deployments: [sim] }]
accounts: [{ id: acme, keys: ["sha256:$(printf 'tg-acme' | sha256sum | cut -d' ' -f1)"] }]
YAML
"$TIDEGATE_BIN" serve --config "$kept/config.yaml" >"$kept/said" 2>"$kept/log" &
gateway=$!
# One of the operations hands over to a new process, so the one that serves at the end may be another.
serving=$gateway
trap 'kill "$gateway" ${serving:+"$serving"} 2>/dev/null || true; wait "$gateway" 2>/dev/null || true' EXIT

admin=
for _ in $(seq 100); do
  admin=$(sed -n 's|^admin on ||p' "$kept/said")
  [ -z "$admin" ] || break
  sleep 0.1
done
[ -n "$admin" ] || {
  cat "$kept/log" >&2
  exit 1
}

# Two parameters in one path: most drawn pairs have a character that a path cannot hold, and are drawn again.
status=0
# What it remembers of its examples lies beside its report, outside of the sources.
cd "$kept"
timeout --kill-after=5 "$RUN_SECONDS_MAX" "$kept/venv/bin/schemathesis" run "$admin/api/v1/openapi.json" \
  --header "Authorization: Bearer $token" --phases examples,coverage,fuzzing --max-examples "$EXAMPLES" \
  --generation-deterministic --suppress-health-check=filter_too_much \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth,unsupported_method \
  >"$kept/report" 2>&1 || status=$?
tail -40 "$kept/report"
serving=$(python3 - "$admin/api/v1/upgrade" "$token" <<'PYTHON'
import json, sys, urllib.request

asked = urllib.request.Request(sys.argv[1], headers={"authorization": f"Bearer {sys.argv[2]}"})
print(json.load(urllib.request.urlopen(asked, timeout=5))["pid"])
PYTHON
) || status=1
kill -0 "${serving:-$gateway}" 2>/dev/null || status=1
if [ "$status" -eq 0 ]; then echo '1 passed, 0 failed'; else echo '0 passed, 1 failed'; fi
exit "$status"
