"""Gateways in the states that an operator meets, each with simulated engines of its own, for pictures of the console.

All run at once for `SETTLE_SECONDS`, so that the charts have something to show.
"""

import json
import time

from programs import Traffic, ask, chat, digest, free_port

TOKEN = "console-test-token"
SETTLE_SECONDS = 75
# When what breaks breaks: the time before it is calm and on the same axis.
BREAK_SECONDS = 40
DRILL_SECONDS_MAX = 60

# A client that was refused asks again so soon.
PAUSE_SECONDS = 1
# An answer of two seconds, and the same for a replica that has many at once.
STEADY = "sim:output=40,delay=400ms,gap=40ms"
LONG = "sim:output=50000,delay=400ms,gap=40ms"
LONG_NAME = "llama-3-3-70b-instruct-fp8-eu-west-1-reserved-for-the-batch-lane"
LONG_MODEL = "meta-llama/Llama-3.3-70B-Instruct-FP8-dynamic-eu-west-1-long-context-131072"
LONG_ACCOUNT = "org_01J9ZK7Q4M6V8T2X5B3N0R1CDE-production-summarization-pipeline"
MANY_DEPLOYMENTS = 26
MANY_REPLICAS = 40


def config(state_folder, deployments, models, accounts):
    return "\n".join([
        f'listen: {{ address: "127.0.0.1:{free_port()}" }}',
        f'admin: {{ address: "127.0.0.1:{free_port()}", token_sha256: "{digest(TOKEN)}" }}',
        "log: { access: off }",
        f'state: {{ dir: "{state_folder}" }}',
        "deployments:", *(f"  - {{ {each} }}" for each in deployments),
        "models:", *(f"  - {{ {each} }}" for each in models),
        "accounts:", *(f"  - {{ {each} }}" for each in accounts),
        "",
    ])


def accounts(*more):
    return [
        f'id: acme, keys: ["{digest("acme")}"], spending_tier: 4, tiers: [priority, regular]',
        f'id: startup, keys: ["{digest("startup")}"], spending_tier: 2',
        *more,
    ]


class State:
    """One gateway, and what is done to it. `look` is the account that is looked at, `deployment` the deployment, `says` its state in
    the console's words."""

    look, deployment, says = "acme", "llama", "open"
    replicas, limit = 2, 12

    def __init__(self, name, programs):
        self.name, self.programs = name, programs
        self.engines = [programs.engine(f"{name}-engine-{nth}", "tiny", "--profile", "8b-h100") for nth in range(self.replicas)]
        _, self.url, self.admin = programs.gateway(self.config())
        self.running = []

    def config(self):
        replicas = json.dumps([address for _, address in self.engines])
        slo = "slo: { ttft_ms: 2000, tpot_ms: 100 }"
        return config(
            self.folder(),
            [f"name: llama, engine: vllm, replicas: {replicas}, limit: {self.limit}, queue: {{ requests: 24 }}, {slo}"],
            ["name: llama-3.1-8b, deployments: [llama], served_model: tiny, size_class: small"],
            accounts(*self.accounts()),
        )

    def folder(self):
        return self.programs.folder.resolve() / "state"

    def accounts(self):
        return []

    def send(self, key, threads, model="llama-3.1-8b", user=STEADY, **more):
        self.running.append(Traffic(self.url, key, chat(model, max_tokens=60000, stream=True, user=user, **more), threads=threads, pause=PAUSE_SECONDS))

    def operate(self, path, body):
        status, _, said = ask(f"{self.admin}/api/v1/{path}", TOKEN, body)
        assert status < 300, f"{self.name}: {path}: {status} {said[:300]}"

    def begin(self):
        self.send("acme", 5, service_tier="priority")
        self.send("startup", 8)

    def breaks(self):
        """What happens after a calm time."""

    def drill(self):
        self.operate("drills", {"scenario": "surge"})

    def stop(self):
        for each in self.running:
            each.stop()

    def place(self):
        return {"state": self.name, "admin": self.admin, "account": self.look, "deployment": self.deployment, "says": self.says, "traffic": bool(self.running)}


class Calm(State):
    def breaks(self):
        self.operate("reload", {})
        self.drill()


class Overload(State):
    """Two to three times what fits, in both tiers; accounts over each kind of limit."""

    limit, look, says = 4, "trial", "shedding both tiers"

    def accounts(self):
        return [
            f'id: trial, keys: ["{digest("trial")}"], limits: [{{ start: {{ generated: 300 }}, ceiling: {{ generated: 3000 }} }}]',
            f'id: hasty, keys: ["{digest("hasty")}"], requests_per_minute: 20',
            f'id: wide, keys: ["{digest("wide")}"], concurrency: 1',
        ]

    def begin(self):
        self.send("acme", 1, service_tier="priority")
        self.send("startup", 3)

    def breaks(self):
        self.send("acme", 20, service_tier="priority")
        self.send("startup", 40)
        for key in ("trial", "hasty", "wide"):
            self.send(key, 2)


class Lost(State):
    """Half of the replicas go away under load."""

    replicas, limit, says = 8, 3, "4 of 8 replicas down"

    def begin(self):
        self.send("acme", 5, service_tier="priority")
        self.send("startup", 12)

    def breaks(self):
        for program, _ in self.engines[:4]:
            program.stop()


class Drain(State):
    """One replica is drained, one still draining; two serve."""

    replicas, limit, says = 4, 8, "open, "

    def begin(self):
        super().begin()
        self.send("acme", 4, user=LONG, service_tier="priority")

    def breaks(self):
        self.operate("deployments/llama/replicas/0/drain", {})
        self.operate("deployments/llama/replicas/1/drain", {})


class Drained(State):
    """All are drained: an operator's wish, and nothing is served."""

    says = "all replicas drained"

    def breaks(self):
        for nth in range(self.replicas):
            self.operate(f"deployments/llama/replicas/{nth}/drain", {})


class Pressed(State):
    """Pressure, and ceilings that an operator set."""

    says = "shedding regular"

    def breaks(self):
        self.operate("deployments/llama/pressure", {"share": 0.6, "seconds": 900})
        self.operate("deployments/llama/thresholds", {"priority": 0.9, "regular": 0.6})


class Fresh(State):
    """Just started: no request yet."""

    def begin(self):
        pass


class Silent(State):
    """Nothing ever answered where the replicas should be."""

    says = "no replica in service"

    def config(self):
        self.engines = [(None, f"http://127.0.0.1:{free_port()}") for _ in range(2)]
        return super().config()

    def begin(self):
        self.send("startup", 1)


class Many(State):
    """Long names, many deployments, many replicas."""

    replicas, look, deployment = 0, LONG_ACCOUNT, LONG_NAME

    def config(self):
        engine = self.programs.start("many-engine", self.programs.tidegate, "engine", "--address", "0.0.0.0:0", "--model", "tiny", "--profile", "8b-h100")
        port = engine.said(r"\bon http://[0-9.]+:([0-9]+)")
        host = "llama-workers-0.llama-workers.inference.svc.cluster.local"
        crowd = json.dumps([f"http://127.0.2.{nth + 1}:{port}" for nth in range(MANY_REPLICAS)])
        mixed = json.dumps([f"http://127.0.3.1:{port}", f"http://{host}:8000"])
        names = [f"qwen-{nth:02}" for nth in range(MANY_DEPLOYMENTS)]
        return config(
            self.folder(),
            [
                f"name: {LONG_NAME}, engine: vllm, replicas: {crowd}, limit: 8",
                f"name: mixed, engine: sglang, replicas: {mixed}, limit: 8",
                *(f'name: {name}, engine: vllm, replicas: ["http://127.0.1.{nth + 1}:{port}"], limit: 8' for nth, name in enumerate(names)),
            ],
            [
                f"name: {LONG_MODEL}, deployments: [{LONG_NAME}], served_model: tiny, size_class: large",
                "name: mixed, deployments: [mixed], served_model: tiny, size_class: small",
                *(f"name: model-of-{name}, deployments: [{name}], served_model: tiny, size_class: small" for name in names),
            ],
            accounts(f'id: {LONG_ACCOUNT}, keys: ["{digest(LONG_ACCOUNT)}"], spending_tier: 4, tiers: [priority, regular], requests_per_minute: 600'),
        )

    def begin(self):
        self.send(LONG_ACCOUNT, 8, model=LONG_MODEL, service_tier="priority")
        self.send(LONG_ACCOUNT, 2, model="mixed")
        self.send("startup", 6, model=LONG_MODEL)


STATES = {"calm": Calm, "overload": Overload, "lost": Lost, "drain": Drain, "drained": Drained, "pressed": Pressed, "fresh": Fresh, "silent": Silent, "many": Many}


def bring(programs_of, names):
    """Brings gateways into their states; returns them. `programs_of` gives each its programs, by its name."""
    states = [STATES[name](name, programs_of(name)) for name in names]
    began = time.monotonic()
    for state in states:
        state.begin()
    time.sleep(BREAK_SECONDS)
    for state in states:
        state.breaks()
    time.sleep(max(0, SETTLE_SECONDS - (time.monotonic() - began)))
    return states
