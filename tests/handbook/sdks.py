"""The examples of deploy/book/sdks.md, word for word but for address and key: each is answered, in priority."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import time

from pages import blocks, tables
from programs import digest, free_port

EXAMPLE_SECONDS_MAX = 60
ENDINGS = {"python": "py", "js": "mjs", "sh": "sh"}
ADDRESS, KEY = "https://gateway.example.org", "tg-your-key"


def config_text(engine, log):
    return f"""
listen: {{ address: "127.0.0.1:{free_port()}" }}
admin: {{ address: "127.0.0.1:{free_port()}" }}
log: {{ access: {log} }}
deployments:
  - {{ name: llama, engine: vllm, replicas: ["{engine}"] }}
models:
  - {{ name: llama-3.1-8b, deployments: [llama] }}
accounts:
  - {{ id: acme, keys: ["{digest(KEY)}"], tiers: [priority, regular] }}
"""


def versions(given):
    """What is installed, by the names that the page has."""
    node = json.loads((given.kept / "package.json").read_text())["dependencies"]
    folders = [sysconfig.get_path("purelib"), *map(str, given.kept.glob("venv-llama-index/lib/*/site-packages"))]
    python = {}
    for folder in reversed(folders):
        python |= {re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(): one.version for one in importlib.metadata.distributions(path=[folder])}
    return python, node


def wrong_versions(given, page):
    """Rows of the page's table whose version is not the one that runs here."""
    python, node = versions(given)
    faults = []
    for library, _, ran in tables(page[: page.index("## curl")])[2:]:
        for name, version in re.findall(r"([@\w/-]+) (\d+\.\d+\.\d+)", ran):
            known = node if "JavaScript" in library or "Vercel" in library else python
            if known.get(name) != version:
                faults.append(f"{name} is {known.get(name)}, the page says {version}")
    return faults


def command(given, block, file):
    # LlamaIndex wants an older SDK of OpenAI's than the others, and so has an environment of its own.
    python = given.kept / "venv-llama-index/bin/python" if "llama_index" in block.text else sys.executable
    return {"python": [python, file], "js": ["node", file], "sh": ["bash", file]}[block.kind]


def run(given, programs, tally):
    page = (given.house / "deploy/book/sdks.md").read_text()
    tally.check("the versions on the page are those that run", wrong_versions(given, page))
    log = programs.folder / "access.log"
    _, engine = programs.engine("engine", "any", "--any-model", "--profile", "instant")
    _, url, _ = programs.gateway(config_text(engine, log))
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "TIKTOKEN_CACHE_DIR": str(programs.folder)}
    for nth, block in enumerate(blocks(page)):
        assert block.kind in ENDINGS, f"a block of {block.kind or 'nothing'} below {block.heading}"
        file = programs.folder / f"sdk-{nth}.{ENDINGS[block.kind]}"
        assert ADDRESS in block.text and KEY in block.text, block.text
        file.write_text(block.text.replace(ADDRESS, url))
        before = len(lines(log))
        ran = subprocess.run([str(part) for part in command(given, block, file)], capture_output=True, text=True, timeout=EXAMPLE_SECONDS_MAX, check=False, env=environment)
        new = lines(log, before + 1)[before:]
        wrong = [line for line in new if (line["status"], line["tier"]) != (200, "priority")]
        faults = ran.stderr.strip()[-400:] if ran.returncode else "" if "priority" in ran.stdout else f"it says {ran.stdout[:200]!r}"
        tally.check(f"{block.heading} ({block.kind}): answered in priority", faults or wrong or ("" if new else "nothing came to the gateway"))


def lines(log, least=0):
    """The lines of the access log, once there are as many; it is written with a delay."""
    found = []
    for _ in range(100):
        found = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        if len(found) >= least:
            break
        time.sleep(0.05)
    return found
