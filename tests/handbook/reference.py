"""What a running gateway writes is what the reference lists: metrics with their labels, fields of the access log, headers."""

import json
import re

from clients import Holder
from pages import tables
from programs import ask, chat, digest, free_port, read
from sdks import lines

# HTTP's own, which every answer of any service has.
FRAMING = {"content-type", "content-length", "transfer-encoding", "connection", "date"}


def config_text(engine, log):
    return f"""
listen:
  address: "127.0.0.1:{free_port()}"
  expose_upstream: true
admin: {{ address: "127.0.0.1:{free_port()}" }}
log: {{ access: {log} }}
deployments:
  - {{ name: open, engine: vllm, replicas: ["{engine[0]}"] }}
  - {{ name: narrow, engine: vllm, replicas: ["{engine[1]}"], limit: 1, queue: {{ requests: 0 }} }}
  - {{ name: gone, engine: vllm, replicas: ["http://127.0.0.1:{free_port()}"] }}
models:
  - {{ name: tiny, deployments: [open] }}
  - {{ name: narrow, deployments: [narrow], served_model: tiny }}
  - {{ name: gone, deployments: [gone] }}
accounts:
  - {{ id: acme, keys: ["{digest('acme')}"], tiers: [priority, regular] }}
  - {{ id: short, keys: ["{digest('short')}"], limits: [{{ start: {{ prompt: 1 }}, ceiling: {{ prompt: 1 }} }}] }}
"""


def listed(given, page):
    """The first cells of a page's tables, without their marks, with the whole rows."""
    rows = tables((given.house / f"deploy/book/reference/{page}").read_text())
    return {row[0].strip("`"): row for row in rows}


def series(text):
    """Names of metrics with the labels that each series has."""
    found = {}
    for line in text.splitlines():
        name = re.match(r"(\w+)(?:\{(.*)\})? ", line)
        if name:
            base = re.sub(r"_(bucket|sum|count)$", "", name[1]) if "_seconds_" in name[1] else name[1]
            labels = set(re.findall(r'(\w+)="', name[2] or "")) - {"le"}
            found.setdefault(base, set()).add(frozenset(labels))
    return found


def run(given, programs, tally):
    log = programs.folder / "access.log"
    engines = [programs.engine(f"engine-{nth}", "tiny", "--profile", "instant")[1] for nth in (1, 2)]
    _, url, admin = programs.gateway(config_text(engines, log))
    heads = []
    Holder(url, admin, "acme", "narrow", "shedder_active:narrow")
    small = chat("tiny", max_tokens=2)
    for key, path, body in [
        ("acme", "/v1/chat/completions", small),
        ("acme", "/v1/chat/completions", small | {"stream": True, "service_tier": "priority"}),
        ("acme", "/v1/messages", small),
        ("acme", "/v1/chat/completions", small | {"n": 0}),
        ("acme", "/v1/chat/completions", chat("gone")),
        ("acme", "/v1/chat/completions", chat("narrow")),
        ("acme", "/v1/chat/completions", chat("unknown")),
        ("acme", "/v1/nothing", small),
        ("nobody", "/v1/chat/completions", small),
        ("short", "/v1/chat/completions", small),
    ]:
        status, headers, _ = ask(f"{url}{path}", key, body, {"x-request-id": "mine", "x-stainless-retry-count": "1"})
        heads.append((status, {name.lower() for name in headers}))
    statuses = {status for status, _ in heads}
    tally.check("answers of each kind came", "" if {200, 400, 401, 404, 429, 502, 503} <= statuses else sorted(statuses))

    known = set(listed(given, "headers.md"))
    tally.check("every header of an answer is in the reference", {name for _, names in heads for name in names} - known - FRAMING)

    fields = list(listed(given, "access-log.md"))
    written = lines(log, len(heads))
    here = list(written[0]) if written else []
    tally.check("a line of the access log has the fields of the reference, in their order", "" if here and here == fields[: len(here)] else f"{here} instead of {fields}")

    page = listed(given, "metrics.md")
    labels = {name: frozenset(re.findall(r"`(\w+)`", row[2])) for name, row in page.items() if len(row) == 4}
    wrong = {name: [sorted(one) for one in sets] for name, sets in series(read(f"{admin}/metrics")).items() if sets != {labels.get(name)}}
    tally.check("every metric is in the reference, with its labels", json.dumps(wrong) if wrong else "")
