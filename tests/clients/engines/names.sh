#!/usr/bin/env bash
# Tries replicas by name by hand: servers behind one DNS name come and go, and the name fails, while requests go on.
#
#   tests/clients/engines/names.sh [TIDEGATE]    # default target/release/tidegate
#
# Names are changed in a copy of the hosts file that only this run sees, in a mount namespace of its own; that needs
# root. Three simulated engines on addresses of loopback. What came of it is in names.txt.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tidegate=$(realpath "${1:-$here/../../../target/release/tidegate}")
if [ -z "${NAMES_APART:-}" ]; then
  NAMES_APART=1 exec unshare --mount bash "${BASH_SOURCE[0]}" "$tidegate"
fi

work=$(mktemp -d)
cp /etc/hosts "$work/hosts"
mount --bind "$work/hosts" /etc/hosts
cd "$work"
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; umount /etc/hosts; rm -rf "$work"' EXIT

cat >gateway.yaml <<YAML
listen: { address: "127.0.0.1:18510", expose_upstream: true, shutdown: { lame_duck_ms: 0 } }
admin: { address: "127.0.0.1:18511" }
log: { access: off, format: json }
deployments: [{ name: fleet, replicas: ["http://fleet.models.test:18501"], dns: { interval_ms: 500 } }]
models: [{ name: sim, deployments: [fleet], size_class: small }]
accounts: [{ id: try, keys: ["sha256:$(printf tg-try | sha256sum | cut -d' ' -f1)"] }]
YAML
for last in 2 3 4; do
  "$tidegate" engine --address "127.0.0.$last:18501" --profile instant --any-model >"engine-$last.log" 2>&1 &
  started+=($!)
done
"$tidegate" serve --config gateway.yaml >gateway.log 2>&1 &
started+=($!)
sleep 3

call() {
  curl --silent --max-time 20 --no-buffer -H 'authorization: Bearer tg-try' -H 'content-type: application/json' \
    http://127.0.0.1:18510/v1/chat/completions "$@"
}

# Eight sessions, each where it belongs.
ask() {
  for session in 1 2 3 4 5 6 7 8; do
    call -o /dev/null -D - -d "{\"model\":\"sim\",\"max_tokens\":2,\"prompt_cache_key\":\"$session\",\"messages\":[{\"role\":\"user\",\"content\":\"tide\"}]}" |
      tr -d '\r' | grep -iE '^HTTP|x-tidegate-(replica|reason)' | tr '\n' ' '
    echo
  done | sort | uniq -c
}

without() {
  grep -v "$1" /etc/hosts >kept
  cat kept >/etc/hosts
}

echo '## the name is not known'
ask
echo '## one address'
echo '127.0.0.2 fleet.models.test' >>/etc/hosts
sleep 1.5
ask
echo '## three'
printf '127.0.0.3 fleet.models.test\n127.0.0.4 fleet.models.test\n' >>/etc/hosts
sleep 1.5
ask
echo '## the first is gone, while streams run'
for session in 1 2 3 4 5 6; do
  call -d "{\"model\":\"sim\",\"stream\":true,\"max_tokens\":120,\"ignore_eos\":true,\"user\":\"sim:gap=40ms\",\"messages\":[{\"role\":\"user\",\"content\":\"tide $session\"}]}" >"stream-$session" &
done
sleep 0.5
without '127.0.0.2 fleet'
sleep 3
ask
sleep 4
echo "streams that ended whole: $(grep -l 'DONE' stream-* | wc -l) of 6"
echo '## the name fails'
without fleet
sleep 2.5
ask
echo '## the log'
grep -E 'replicas have changed|not resolved' gateway.log | sed 's/"timestamp":"[^"]*",//' | uniq -c
