"""Takes the examples out of deploy/customers.md and has each of them refused, told to wait, and let in.

    python main.py --tidegate PROGRAM --house FOLDER --logs FOLDER --tsx PROGRAM
"""

import argparse
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys

from programs import Programs, StartError, Traffic, chat, digest, free_port, read
from tally import Tally

EXAMPLE_SECONDS_MAX = 60

# What each language is asked to do: call `complete` and print what came, or the status with which it gave up.
CALLERS = {
    "python": """
import sys
url, key, body, tries, seconds = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
try:
    print("answered", complete(url, key, body, tries, seconds)["choices"][0]["message"]["role"])
except GaveUp as gave_up:
    print("gave up", gave_up.status)
""",
    "ts": """
const [url, key, body, tries, seconds] = process.argv.slice(2);
try {
  const answer = await complete(url, key, JSON.parse(body), Number(tries), Number(seconds));
  console.log("answered", answer.choices[0].message.role);
} catch (error) {
  if (!(error instanceof GaveUp)) throw error;
  console.log("gave up", error.status);
}
""",
}


def examples(house):
    """The code blocks of the guide by language, one of each."""
    text = (house / "deploy/customers.md").read_text()
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert sorted(language for language, _ in found) == ["python", "ts"], [language for language, _ in found]
    return dict(found)


class Example:
    """One of them, ready to be called."""

    def __init__(self, language, code, folder, tsx):
        file = folder / {"python": "example.py", "ts": "example.mts"}[language]
        file.write_text(code + CALLERS[language])
        self.command = {"python": [sys.executable, file], "ts": [tsx, file]}[language]

    def call(self, url, key, body, tries=6, seconds=40):
        """What it prints."""
        command = [*self.command, url, key, json.dumps(body), tries, seconds]
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
    answer = json.loads(read(f"{admin}/api/v1/requests"))
    return [refused["reason"] for refused in (answer if isinstance(answer, list) else answer["refusals"])]


def tried(language, example, url, admin, tally):
    def outcome(what, said, wanted):
        tally.check(f"{language}: {what}", "" if said == wanted else f"{said!r} instead of {wanted!r}")

    outcome("is answered", example.call(url, "acme", chat("tiny", max_tokens=4)), "answered assistant")
    outcome("does not repeat what a wrong key gets", example.call(url, "nobody", chat("tiny")), "gave up 401")

    # Somebody else holds the only place for a second and a half.
    slow = chat("tiny-narrow", max_tokens=4, user="sim:output=4,delay=1500ms")
    before = len(refusals(admin))
    holder = Traffic(url, "acme", slow, pause=60)
    while not json.loads(read(f"{admin}/api/v1/invariants"))["counters"]["shedder_active:narrow"]:
        pass
    outcome("is refused for load, waits as told, and is answered", example.call(url, "acme", chat("tiny-narrow", max_tokens=4)), "answered assistant")
    holder.stop()
    new = len(refusals(admin)) - before
    tally.check(f"{language}: after {new} refusals, not a storm of them", "" if 1 <= new <= 5 and "shed-saturated" in refusals(admin)[:new] else refusals(admin)[:new])

    before = len(refusals(admin))
    holder = Traffic(url, "single", chat("tiny", max_tokens=4, user="sim:output=4,delay=1500ms"), pause=60)
    while not json.loads(read(f"{admin}/api/v1/invariants"))["counters"]["requests_in_flight"]:
        pass
    outcome("is over its own limit, waits as told, and is answered", example.call(url, "single", chat("tiny", max_tokens=4)), "answered assistant")
    holder.stop()
    new = len(refusals(admin)) - before
    tally.check(f"{language}: after {new} refusals, not a storm of them", "" if 1 <= new <= 5 and "concurrency_limited" in refusals(admin)[:new] else refusals(admin)[:new])

    large = chat("tiny", max_tokens=4)
    large["messages"][0]["content"] = "word " * 3000
    before = len(refusals(admin))
    outcome("gives up at once where no wait can help", example.call(url, "short", large), "gave up 429")
    tally.check(f"{language}: after one refusal", "" if len(refusals(admin)) == before + 1 else len(refusals(admin)) - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidegate", required=True, type=pathlib.Path)
    parser.add_argument("--house", required=True, type=pathlib.Path)
    parser.add_argument("--tsx", required=True, type=pathlib.Path)
    parser.add_argument("--logs", required=True, type=pathlib.Path, help="written anew on each run")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: out of time"))
    shutil.rmtree(given.logs, ignore_errors=True)

    tally = Tally()
    try:
        with Programs(given.tidegate, given.logs) as programs:
            engines = [programs.engine(f"engine-{nth}", "tiny", "--profile", "instant")[1] for nth in (1, 2)]
            _, url, admin = programs.gateway(config_text(engines))
            for language, code in examples(given.house).items():
                tried(language, Example(language, code, given.logs, given.tsx.resolve()), url, admin, tally)
    except StartError as fault:
        tally.check("the programs start", fault)
    tally.end()


if __name__ == "__main__":
    main()
