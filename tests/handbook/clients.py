"""The clients without an SDK in deploy/book/customers.md: refused, told to wait, and let in; and before a broken service."""

import http.client
import json
import subprocess
import sys
import threading
import time

from broken import Broken
from pages import blocks
from programs import chat, digest, free_port, read

EXAMPLE_SECONDS_MAX = 60

# What each language is asked to do: call `complete` and print what came, or the status with which it gave up.
CALLERS = {
    "python": """
import sys
url, key, body = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
tries, seconds, silence = int(sys.argv[4]), float(sys.argv[5]), float(sys.argv[6])
try:
    print("answered", complete(url, key, body, tries, seconds, silence)["choices"][0]["message"]["role"])
except GaveUp as gave_up:
    print("gave up", gave_up.status)
""",
    "ts": """
const [url, key, body, ...numbers] = process.argv.slice(2);
const [tries, seconds, each] = numbers.map(Number);
try {
  const answer = await complete(url, key, JSON.parse(body), tries, seconds, each);
  console.log("answered", answer.choices[0].message.role);
} catch (error) {
  if (!(error instanceof GaveUp)) throw error;
  console.log("gave up", error.status);
}
""",
}


def examples(house):
    """The clients of the page by language, one of each."""
    found = [(block.kind, block.text) for block in blocks((house / "deploy/book/customers.md").read_text())]
    assert sorted(language for language, _ in found) == ["python", "ts"], [language for language, _ in found]
    return dict(found)


class Example:
    """One of them, ready to be called."""

    def __init__(self, language, code, folder, tsx):
        file = folder / {"python": "example.py", "ts": "example.mts"}[language]
        file.write_text(code + CALLERS[language])
        self.command = {"python": [sys.executable, file], "ts": [tsx, file]}[language]

    def call(self, url, key, body, tries=6, seconds=40, silence=20):
        """What it prints."""
        command = [*self.command, url, key, json.dumps(body), tries, seconds, silence]
        ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=EXAMPLE_SECONDS_MAX, check=False)
        return ran.stdout.strip() or ran.stderr.strip()[-600:]


def config_text(engine):
    """`single` may have one request at once; `tiny-narrow` has one place and no queue; `short` has a small limit for ever."""
    return f"""
listen: {{ address: "127.0.0.1:{free_port()}" }}
admin: {{ address: "127.0.0.1:{free_port()}" }}
log: {{ access: off }}
deployments:
  - {{ name: open, engine: vllm, replicas: ["{engine[0]}"] }}
  - {{ name: narrow, engine: vllm, replicas: ["{engine[1]}"], limit: 1, queue: {{ requests: 0 }} }}
models:
  - {{ name: tiny, deployments: [open] }}
  - {{ name: tiny-narrow, deployments: [narrow], served_model: tiny }}
accounts:
  - {{ id: single, keys: ["{digest('single')}"], concurrency: 1 }}
  - {{ id: acme, keys: ["{digest('acme')}"] }}
  - {{ id: short, keys: ["{digest('short')}"], limits: [{{ start: {{ prompt: 1000 }}, ceiling: {{ prompt: 1000 }} }}] }}
"""


def refusals(admin):
    """The reasons of the last refusals."""
    return [refused["reason"] for refused in json.loads(read(f"{admin}/api/v1/requests"))["refusals"]]


def before_a_broken_service(language, example, tally):
    """What breaks on the way is repeated, as the page says; what never works is given up with the status 0."""
    for way in ("close", "cut", "silent"):
        service = Broken(way)
        said = example.call(service.url, "acme", chat("tiny"), silence=2)
        tally.check(f"{language}: {way}, then an answer", "" if (said, service.connections) == ("answered assistant", 2) else f"{said!r} after {service.connections} connections")
        service.stop()
    service = Broken(*["close", "cut"] * 5)
    said = example.call(service.url, "acme", chat("tiny"), tries=3)
    tally.check(f"{language}: gives up what stays broken", "" if (said, service.connections) == ("gave up 0", 3) else f"{said!r} after {service.connections} connections")
    service.stop()


class Holder:
    """Holds a place until somebody else was refused for it: a request whose answer does not come, and that is then left."""

    def __init__(self, url, admin, key, model, counter):
        self.admin, self.before = admin, len(refusals(admin))
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"))
        body = json.dumps(chat(model, max_tokens=4, user=f"sim:delay={EXAMPLE_SECONDS_MAX}s"))
        head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.connection.request("POST", "/v1/chat/completions", body, head)
        while not json.loads(read(f"{admin}/api/v1/invariants"))["counters"][counter]:
            time.sleep(0.02)
        threading.Thread(target=self.wait, daemon=True).start()

    def wait(self):
        for _ in range(10 * EXAMPLE_SECONDS_MAX):
            if len(refusals(self.admin)) > self.before:
                break
            time.sleep(0.1)
        self.connection.close()

    def refused(self, reason):
        """What is wrong with the refusals since: none, a storm, or for another reason."""
        new = refusals(self.admin)[: len(refusals(self.admin)) - self.before]
        return "" if 1 <= len(new) <= 5 and set(new) == {reason} else f"refusals: {new}"


def tried(language, example, url, admin, tally):
    def outcome(what, said, wanted):
        tally.check(f"{language}: {what}", "" if said == wanted else f"{said!r} instead of {wanted!r}")

    outcome("is answered", example.call(url, "acme", chat("tiny", max_tokens=4)), "answered assistant")
    outcome("does not repeat what a wrong key gets", example.call(url, "nobody", chat("tiny")), "gave up 401")

    holder = Holder(url, admin, "acme", "tiny-narrow", "shedder_active:narrow")
    outcome("is refused for load, waits as told, and is answered", example.call(url, "acme", chat("tiny-narrow", max_tokens=4)), "answered assistant")
    tally.check(f"{language}: after some refusals, not a storm of them", holder.refused("shed-saturated"))

    holder = Holder(url, admin, "single", "tiny", "requests_in_flight")
    outcome("is over its own limit, waits as told, and is answered", example.call(url, "single", chat("tiny", max_tokens=4)), "answered assistant")
    tally.check(f"{language}: after some refusals, not a storm of them", holder.refused("concurrency_limited"))

    large = chat("tiny", max_tokens=4)
    large["messages"][0]["content"] = "word " * 3000
    before = len(refusals(admin))
    outcome("gives up at once where no wait can help", example.call(url, "short", large), "gave up 429")
    tally.check(f"{language}: after one refusal", "" if len(refusals(admin)) == before + 1 else len(refusals(admin)) - before)


def run(given, programs, tally):
    engines = [programs.engine(f"engine-{nth}", "tiny", "--profile", "instant")[1] for nth in (1, 2)]
    _, url, admin = programs.gateway(config_text(engines))
    for language, code in examples(given.house).items():
        example = Example(language, code, programs.folder, given.kept / "node_modules/.bin/tsx")
        before_a_broken_service(language, example, tally)
        tried(language, example, url, admin, tally)
