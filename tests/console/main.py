"""Starts what the console looks at, keeps traffic on it, and lets the browser's checks run.

    python main.py --tidegate PROGRAM --logs FOLDER --chromium PROGRAM --packages FOLDER
    python main.py ... --states FOLDER [--only NAME,NAME]

The checks themselves are page.mjs and, before a gateway with many deployments and accounts, large.mjs. Each ends with a
line of its own; this program fails where one of them does. With --states instead: gateways in the states of states.py, and
pictures of them in FOLDER, taken by states.mjs.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

from programs import Programs, Traffic, ask, chat, digest, free_port
from states import STATES, TOKEN, bring

DEPLOYMENTS = 200
ACCOUNTS = 10_000


def config_text(engines, state):
    """`wide` has room; `narrow` has two places, so that somebody is always turned away; `trial` has little to spend."""
    return f"""
listen: {{ address: "127.0.0.1:{free_port()}" }}
admin: {{ address: "127.0.0.1:{free_port()}", token_sha256: "{digest(TOKEN)}" }}
log: {{ access: off }}
state: {{ dir: "{state}" }}
deployments:
  - {{ name: wide, engine: vllm, replicas: ["{engines[0]}", "{engines[1]}"], slo: {{ ttft_ms: 2000, tpot_ms: 100 }} }}
  - {{ name: narrow, engine: vllm, replicas: ["{engines[2]}"], limit: 2, queue: {{ requests: 4 }}, slo: {{ ttft_ms: 2000, tpot_ms: 100 }} }}
models:
  - {{ name: tiny, deployments: [wide], size_class: small }}
  - {{ name: tiny-narrow, deployments: [narrow], served_model: tiny, size_class: small }}
accounts:
  - {{ id: acme, keys: ["{digest('acme')}"], spending_tier: 4, tiers: [priority, regular] }}
  - {{ id: startup, keys: ["{digest('startup')}"], spending_tier: 2 }}
  - {{ id: trial, keys: ["{digest('trial')}"], limits: [{{ start: {{ generated: 300 }}, ceiling: {{ generated: 3000 }} }}] }}
"""


def large_text(port):
    """As many deployments and accounts as a console has to stand; one engine is behind all of them, at an address of loopback each."""
    names = [f"deployment-{nth:03}" for nth in range(DEPLOYMENTS)]
    lines = [
        f'listen: {{ address: "127.0.0.1:{free_port()}" }}',
        f'admin: {{ address: "127.0.0.1:{free_port()}", token_sha256: "{digest(TOKEN)}" }}',
        "log: { access: off }",
        "deployments:",
        *(f'  - {{ name: {name}, engine: vllm, replicas: ["http://127.0.1.{nth + 1}:{port}"] }}' for nth, name in enumerate(names)),
        "models:",
        *(f"  - {{ name: model-of-{name}, deployments: [{name}], served_model: tiny, size_class: small }}" for name in names),
        "accounts:",
        *(f'  - {{ id: customer-{nth:05}, keys: ["{digest(str(nth))}"] }}' for nth in range(ACCOUNTS)),
    ]
    return "\n".join(lines) + "\n"


def traffic(url):
    """Some of everything: served, waiting, shed, over a budget."""
    slow = "sim:output=20,delay=300ms,gap=10ms"
    return [
        Traffic(url, "acme", chat("tiny", max_tokens=40, stream=True, service_tier="priority", user="sim:output=40,gap=20ms"), threads=6),
        Traffic(url, "startup", chat("tiny", max_tokens=20, stream=True, user="sim:output=20,gap=20ms"), threads=4),
        Traffic(url, "startup", chat("tiny-narrow", max_tokens=20, user=slow), threads=8, pause=0.1),
        Traffic(url, "acme", chat("tiny-narrow", max_tokens=20, service_tier="priority", user=slow), threads=2, pause=0.1),
        Traffic(url, "trial", chat("tiny", max_tokens=20, user="sim:output=20"), threads=2, pause=0.2),
    ]


def pictures(given, run):
    """All states at once, then their pictures."""
    given.states.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        states = bring(lambda name: stack.enter_context(Programs(given.tidegate, given.logs / name)), given.only.split(","))
        failed = run("states.mjs", STATES=json.dumps([state.place() for state in states]), SHOTS=str(given.states.resolve()))
        for state in states:
            state.stop()
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--tidegate", "--logs", "--chromium", "--packages"):
        parser.add_argument(name, required=True, type=pathlib.Path)
    parser.add_argument("--states", type=pathlib.Path, help="pictures of each state, into this folder, and no other checks")
    parser.add_argument("--only", default=",".join(STATES), help="of these states; default: all")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: out of time"))
    shutil.rmtree(given.logs, ignore_errors=True)

    checks = pathlib.Path(__file__).parent
    place = {"TOKEN": TOKEN, "CHROMIUM": str(given.chromium), "SHOTS": str(given.packages), "PACKAGES": str(given.packages)}

    def run(script, **more):
        return subprocess.run(["node", str(checks / script)], env={**os.environ, **place, **more}, check=False).returncode

    if given.states:
        sys.exit(pictures(given, run))
    with Programs(given.tidegate, given.logs) as programs:
        engines = [programs.engine(f"engine-{nth}", "tiny", "--profile", "instant")[1] for nth in (1, 2, 3)]
        _, url, admin = programs.gateway(config_text(engines, given.logs.resolve() / "state"))
        running = traffic(url)
        failed = run("page.mjs", ADMIN=admin, URL_SERVED=url)
        for each in running:
            each.stop()
    with Programs(given.tidegate, given.logs / "large") as programs:
        engine = programs.start("engine", given.tidegate.resolve(), "engine", "--address", "0.0.0.0:0", "--model", "tiny", "--profile", "instant")
        _, url, admin = programs.gateway(large_text(engine.said(r"\bon http://[0-9.]+:([0-9]+)")))
        ask(f"{url}/v1/chat/completions", "0", chat("model-of-deployment-000", max_tokens=20, user="sim:output=20"))
        failed = run("large.mjs", ADMIN=admin) or failed
    sys.exit(failed)


if __name__ == "__main__":
    main()
