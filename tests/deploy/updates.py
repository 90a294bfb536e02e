"""Updates with traffic through them: as the chart makes them without persistence, and as compose and the chart with it do.

Kubernetes is played by what it does: a new pod is in the service once it is ready, then the old one leaves it and, a moment later
(preStop), is told to stop. Without persistence nobody may notice. With a volume, which belongs to one process, the old
one has to end first: how long nobody listens is what the handbook, values.yaml and compose.yaml say.
"""

import threading
import time

from programs import Programs, ask, chat, digest, free_port

LAME_DUCK_MS = 500
# Answers of about a second, so that some run whenever a process is told to stop.
ANSWER_TOKENS = 40
# Between leaving the service and being told to stop: the chart's preStop is 5 s.
PRESTOP_S = 0.5


def check(given, said, tally):
    for name, part in (("surge", surge), ("recreate", recreate)):
        with Programs(given.tidegate, given.logs / f"updates-{name}") as programs:
            _, engine = programs.engine("engine", "tiny", "--profile", "8b-a100")
            part(programs, engine, tally)


def config(engine, port, state=None):
    return f"""
listen: {{ address: "127.0.0.1:{port}", shutdown: {{ lame_duck_ms: {LAME_DUCK_MS}, grace_ms: 20000 }} }}
admin: {{ address: "127.0.0.1:{free_port()}" }}
deployments: [{{ name: tiny, engine: vllm, replicas: ["{engine}"] }}]
models: [{{ name: tiny, deployments: [tiny] }}]
accounts: [{{ id: acme, keys: ["{digest('key')}"] }}]
{f"state: {{ dir: {state} }}" if state else ""}
"""


class Service:
    """Requests one after the other from several clients, each to whatever address is in the service then."""

    def __init__(self, *addresses):
        self.addresses = list(addresses)
        self.outcomes = []
        self.ended = threading.Event()
        self.clients = [threading.Thread(target=self.run, args=(nth,)) for nth in range(4)]
        for client in self.clients:
            client.start()

    def run(self, nth):
        while not self.ended.is_set():
            began = time.monotonic()
            address = self.addresses[nth % len(self.addresses)]
            try:
                status, _, _ = ask(f"{address}/v1/chat/completions", "key", chat("tiny", max_tokens=ANSWER_TOKENS, ignore_eos=True))
            except OSError as fault:
                status = str(fault)
                self.ended.wait(0.02)
            self.outcomes.append((began, status))

    def stop(self):
        self.ended.set()
        for client in self.clients:
            client.join()
        return self.outcomes


def surge(programs, engine, tally):
    old, old_url, _ = programs.gateway(config(engine, free_port()))
    service = Service(old_url)
    time.sleep(1.5)
    # programs.gateway returns once /readyz is green.
    _, new_url, _ = programs.gateway(config(engine, free_port()))
    service.addresses = [old_url, new_url]
    time.sleep(1)
    service.addresses = [new_url]
    time.sleep(PRESTOP_S)
    status = old.stop()
    time.sleep(1)
    outcomes = service.stop()
    bad = [outcome for _, outcome in outcomes if outcome != 200]
    tally.check(f"surge 1, unavailable 0: all {len(outcomes)} requests of an update are answered", bad or ("" if len(outcomes) >= 8 else "too few"))
    tally.check("and the old process ends by itself", "" if status == 0 else f"exit {status}")


def recreate(programs, engine, tally):
    port, state = free_port(), programs.folder / "state"
    old, url, _ = programs.gateway(config(engine, port, state))
    service = Service(url)
    time.sleep(1.5)
    told = time.monotonic()
    status = old.stop()
    programs.gateway(config(engine, port, state))
    time.sleep(1)
    outcomes = service.stop()
    lost = [began - told for began, outcome in outcomes if outcome != 200]
    tally.check("with a volume the old process ends first, by itself", "" if status == 0 else f"exit {status}")
    broken = [outcome for began, outcome in outcomes if outcome != 200 and began < told]
    tally.check("what ran before it was told to stop is answered", broken)
    early = [at for at in lost if at < LAME_DUCK_MS / 1000 - 0.1]
    tally.check("requests are taken until its lame-duck time is over", early)
    gap = f"from {min(lost):.1f} to {max(lost):.1f} s" if lost else "none"
    tally.check(f"then there is a gap, {gap}, and after it requests are answered", "" if lost and outcomes[-1][1] == 200 else outcomes[-3:])
