"""Makes go wrong what the alerts are for, and sees them fire in the real Prometheus; asks it every query of the dashboard.

    python main.py --tidegate PROGRAM --house FOLDER --logs FOLDER --packages FOLDER

The rules are those of deploy/prometheus, with their times divided: five minutes become fifteen seconds. What takes
longer than a test may (a starved CPU, a slow disk) is in alerts_test.yaml, on recorded
series; RECORDED_ONLY names it, and the last check is that nothing is forgotten in between.
"""

import argparse
import json
import pathlib
import re
import shutil
import signal
import sys
import time
import urllib.parse

import dashboard
import routine
from programs import Programs, StartError, Traffic, chat, digest, free_port, read, wait_for
from tally import Tally

FIRE_SECONDS_MAX = 60
CALM_SECONDS = 8

RECORDED_ONLY = {"TidegateOverhead", "TidegateLogDropped", "TidegateStateNotSaved", "TidegateKeysExpire"}
# Tells that the machine lacks CPU, as one does that others use as well: nothing that was made to go wrong here.
OF_THE_MACHINE = {"TidegateOverhead"}
# What is made to fire here, by the situation; `TidegateDown` and `TidegateReloadFailed` come last.
MADE = {
    "TidegateReplicaDown": "one of two engines of `steady` is stopped",
    "TidegateDeploymentDown": "the only engine of `gone` is stopped",
    "TidegatePriorityShed": "four priority clients on one place without a queue",
    "TidegateRegularShed": "four regular clients beside them",
    "TidegateFirstTokenSlow": "an engine that is silent for four seconds",
    "TidegateReplicaSlow": "one of two engines of `uneven` lets three times as long pass between tokens as is promised",
    "TidegateUpstreamErrors": "an engine that breaks connections off",
    "TidegateUnexplainedErrors": "an engine that answers 500",
    "TidegateModelMissing": "one of two engines of `partial` was started with another model",
    "TidegateAnswersBroken": "an engine that answers 500, and no other replica",
    "TidegateScrapeStale": "an engine whose metrics are elsewhere",
    "TidegateUsageMissing": "an engine that reports no usage",
    "TidegateRetryStorm": "clients that say that they retry",
    "TidegateAccountAtLimit": "an account that asks for more than its 240 tokens a minute",
    "TidegateMemoryFull": "large bodies, many at once, on a slow engine",
    "TidegateUnknownKeys": "a key that nobody has",
}
TOKEN = "drill-token"
ENGINES = {
    "steady-0": (), "steady-1": (), "gone": (), "narrow": (),
    "slow": ("--fault", "delay=4s"),
    "broken": ("--fault", "status=500,share=0.5"),
    "resets": ("--fault", "reset=0,share=0.5"),
    "partial-0": (), "partial-1": (),
    "mute": ("--fault", "no-usage"),
    "uneven-0": (), "uneven-1": ("--fault", "gap=300ms"),
}
# An engine serves the model of its deployment's name, but for this one.
OTHER_MODEL = {"partial-1": "another"}


def config_text(urls):
    """Deployments that each have one thing wrong, and `steady`, which has not."""
    lines = [
        "state: { dir: state }",
        f'listen: {{ address: "127.0.0.1:{free_port()}", shutdown: {{ lame_duck_ms: 1000, grace_ms: 20000 }}, limits: {{ body_bytes: 200KiB, inflight_bytes: 1MiB, inflight_account_share: 0.25 }} }}',
        f'admin: {{ address: "127.0.0.1:{free_port()}", token_sha256: "{digest(TOKEN)}" }}',
        "log: { access: off }",
        "limits: { policy: fixed }",
        "deployments:",
    ]
    more = {"narrow": "limit: 1, queue: { requests: 0 },", "mute": "scrape: { path: /elsewhere },", "uneven": "slo: { tpot_ms: 100 },"}
    names = ["steady", "gone", "narrow", "slow", "broken", "resets", "partial", "mute", "uneven"]
    for name in names:
        replicas = [url for engine, url in urls.items() if engine.split("-")[0] == name]
        lines.append(f"  - {{ name: {name}, engine: vllm, {more.get(name, '')} replicas: {json.dumps(replicas)} }}")
    lines.append("models:")
    lines += [f"  - {{ name: {name}, deployments: [{name}], size_class: small }}" for name in names]
    lines.append("accounts:")
    for account in ("acme", "small", "bulk"):
        # As many requests as it takes; the meters are what is tried here.
        generated = 240 if account == "small" else 8_000_000
        limits = f"limits: [{{ start: {{ prompt: 99000000, uncached_prompt: 99000000, generated: {generated} }} }}],"
        lines.append(
            f'  - {{ id: {account}, keys: ["{digest(account)}"], {limits} spending_tier: enterprise, '
            "tiers: [priority, regular], requests_per_minute: 600000 }"
        )
    return "\n".join(lines) + "\n"


def hurried(text):
    """The rules with their times divided, so that an hour's alert fires in a test."""
    text = re.sub(r"for: \d+[ms]", "for: 1s", text)
    text = re.sub(r"\[5m\]", "[15s]", text)
    return text.replace("interval: 15s", "interval: 1s")


class Prometheus:
    """The real one, reading the gateway every second."""

    def __init__(self, programs, house, admin):
        folder = programs.folder / "rules"
        folder.mkdir()
        for name in ("recording.yaml", "alerts.yaml"):
            (folder / name).write_text(hurried((house / "deploy/prometheus" / name).read_text()))
        config = (house / "deploy/prometheus/prometheus.yaml").read_text()
        config = config.replace("interval: 15s", "interval: 1s").replace("127.0.0.1:9090", admin.removeprefix("http://"))
        (folder / "prometheus.yaml").write_text(config)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.program = programs.start(
            "prometheus", "prometheus", f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={programs.folder / 'data'}", f"--web.listen-address={self.url.removeprefix('http://')}",
        )
        wait_for(f"{self.url}/-/ready", self.program)

    def ask(self, query):
        """The result of an instant query: a list of series."""
        return json.loads(read(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))["data"]["result"]

    def firing(self):
        """The names of the alerts that fire now."""
        return {found["metric"]["alertname"] for found in self.ask('ALERTS{alertstate="firing"}')}

    def wait_until_firing(self, wanted):
        """Those of `wanted` that do not fire in time."""
        deadline = time.monotonic() + FIRE_SECONDS_MAX
        missing = set(wanted)
        while missing and time.monotonic() < deadline:
            missing -= self.firing()
            time.sleep(0.5)
        return missing


def go_wrong(url, engines):
    """Starts everything that the alerts are for; what to stop at the end."""
    engines["steady-1"].stop()
    engines["gone"].stop()
    slow_answer = chat("narrow", max_tokens=4, user="sim:delay=200ms,output=4")
    large = chat("slow", max_tokens=4)
    large["messages"][0]["content"] = "word " * 24_000
    return [
        Traffic(url, "acme", {**slow_answer, "service_tier": "priority"}, threads=4),
        Traffic(url, "acme", slow_answer, threads=4),
        Traffic(url, "acme", chat("slow", max_tokens=4, service_tier="priority", stream=True), threads=4),
        Traffic(url, "acme", chat("broken", max_tokens=4), threads=2),
        Traffic(url, "acme", chat("resets", max_tokens=4), threads=2),
        Traffic(url, "acme", chat("partial", max_tokens=4), threads=2),
        Traffic(url, "acme", chat("mute", max_tokens=4)),
        Traffic(url, "acme", chat("uneven", max_tokens=20, stream=True), threads=12),
        Traffic(url, "acme", chat("steady", max_tokens=4), threads=4, headers={"x-stainless-retry-count": "1"}),
        Traffic(url, "small", chat("steady", max_tokens=4, user="sim:output=4"), threads=2),
        Traffic(url, "bulk", large, threads=6),
        Traffic(url, "nobody", chat("steady")),
    ]


def restarted(programs, engines, name, place):
    """Ends an engine and starts another at the same place, as a rolling restart does."""
    engines[name].stop()
    address = place.removeprefix("http://")
    model = name.split("-")[0]
    engines[name] = programs.start(
        f"{name}-again", programs.tidegate, "engine", "--address", address, "--model", model, "--profile", "instant"
    )
    engines[name].said(r"\bon (http://[0-9.:]+)")
    return engines[name]


def break_config(programs):
    """Puts a fault into the gateway's config file, which it reads by itself; whole, as an editor saves."""
    file = programs.folder / "tidegate.yaml"
    broken = file.with_suffix(".broken")
    broken.write_text(file.read_text().replace("accounts:", "acounts:"))
    broken.replace(file)


def drill(programs, house, tally):
    started = {
        name: programs.engine(name, OTHER_MODEL.get(name, name.split("-")[0]), "--profile", "instant", *options)
        for name, options in ENGINES.items()
    }
    engines = {name: program for name, (program, _) in started.items()}
    gateway, url, admin = programs.gateway(config_text({name: address for name, (_, address) in started.items()}))
    prometheus = Prometheus(programs, house, admin)

    calm = Traffic(url, "acme", chat("steady", max_tokens=4))
    time.sleep(CALM_SECONDS)
    # The metrics of `mute` are wrong from the start.
    tally.check("while nothing is wrong no alert fires", prometheus.firing() - {"TidegateScrapeStale"} - OF_THE_MACHINE)

    places = {name: address for name, (_, address) in started.items()}
    gateway = routine.check(
        programs, gateway, admin, TOKEN, prometheus,
        [lambda name=name: restarted(programs, engines, name, places[name]) for name in ("steady-0", "steady-1")],
        "steady", {"TidegateScrapeStale"} | OF_THE_MACHINE, tally,
    )

    trouble = go_wrong(url, engines)
    missing = prometheus.wait_until_firing(MADE)
    for alert, situation in MADE.items():
        tally.check(f"{alert} fires: {situation}", {alert} & missing)
    tally.check("and no other", prometheus.firing() - set(MADE) - OF_THE_MACHINE)
    dashboard.check(house, prometheus, tally)

    break_config(programs)
    tally.check("TidegateReloadFailed fires: the file has a fault", prometheus.wait_until_firing({"TidegateReloadFailed"}))
    for traffic in [calm, *trouble]:
        traffic.stop()
    gateway.stop()
    tally.check("TidegateDown fires: the gateway is stopped", prometheus.wait_until_firing({"TidegateDown"}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidegate", required=True, type=pathlib.Path)
    parser.add_argument("--house", required=True, type=pathlib.Path)
    parser.add_argument("--packages", required=True, type=pathlib.Path, help="where node_modules is")
    parser.add_argument("--logs", required=True, type=pathlib.Path, help="written anew on each run")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: out of time"))
    shutil.rmtree(given.logs, ignore_errors=True)

    tally = Tally()
    dashboard.check_shape(given.house, given.packages, tally)
    try:
        with Programs(given.tidegate, given.logs) as programs:
            drill(programs, given.house, tally)
    except StartError as fault:
        tally.check("the programs start", fault)
    text = (given.house / "deploy/prometheus/alerts.yaml").read_text()
    alerts = set(re.findall(r"- alert: (\w+)", text))
    tally.check("each alert is made to fire here, or recorded", alerts - set(MADE) - RECORDED_ONLY - {"TidegateDown", "TidegateReloadFailed"})
    tally.end()


if __name__ == "__main__":
    main()
