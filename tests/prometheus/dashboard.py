"""The dashboard: it has the shape of Grafana's own types, every name in its queries is one of the gateway's metrics, and
Prometheus answers each query with data.

Grafana itself is in no registry that this can use, so the shape is tried against `@grafana/schema`, which Grafana is
built with.
"""

import json
import re
import subprocess

# Only where limits move, which takes a quarter of an hour, and where somebody attacks the admin listener.
NO_DATA_YET = {"tidegate_limit_changes_total", "tidegate_admin_refused_total"}


def queries(house):
    """Title and query of everything that the dashboard asks."""
    board = json.loads((house / "deploy/grafana/tidegate.json").read_text())
    assert board["uid"] == "tidegate"
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]
    sources = {json.dumps(panel["datasource"]) for panel in board["panels"] if "datasource" in panel}
    assert sources == {'{"type": "prometheus", "uid": "${DS_PROMETHEUS}"}'}, sources
    return found


def names_of_the_gateway(house):
    """What the sources of the gateway give a metric's name to."""
    found = set()
    sources = [house / "gateway/src", *house.glob("gateway/*/src")]
    for file in (file for folder in sources for file in folder.rglob("*.rs")):
        found |= set(re.findall(r'"(tidegate_[a-z_]+)"', file.read_text()))
    return found


def filled_in(query):
    """The query as Grafana sends it when everything is chosen."""
    query = query.replace("$__rate_interval", "15s")
    return re.sub(r"\$(deployment|model|account)", ".*", query)


def check_shape(house, packages, tally):
    """The TypeScript compiler reads the dashboard as a value of Grafana's type."""
    board = (house / "deploy/grafana/tidegate.json").read_text().strip()
    # An enum of strings has no literals of its own.
    board = board.replace('"mode": "absolute"', '"mode": ThresholdsMode.Absolute')
    # Prometheus' own additions to an annotation, which the types of all data sources do not have.
    board = re.sub(r',\s*"titleFormat": "[^"]*"', "", board)
    board = re.sub(r',\s*"expr": "ALERTS[^\n]*', "", board)
    file = packages / "dashboard.ts"
    file.write_text(
        'import { type Dashboard, ThresholdsMode } from "@grafana/schema";\n'
        f"export const board = {board} satisfies Partial<Dashboard>;\n"
    )
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022"]
    compiler = [packages / "node_modules/.bin/tsc", *options, file]
    ran = subprocess.run([str(part) for part in compiler], capture_output=True, text=True, timeout=60, check=False)
    tally.check("the dashboard is one by Grafana's own types", (ran.stdout + ran.stderr)[-800:] if ran.returncode else "")


def check(house, prometheus, tally):
    known = names_of_the_gateway(house)
    asked = queries(house)
    rules = "".join((house / "deploy/prometheus" / name).read_text() for name in ("recording.yaml", "alerts.yaml"))
    # A name of a recording rule has colons before and behind.
    used = set(re.findall(r"(?<![:\w])tidegate_[a-z_]+(?![:\w])", rules + " ".join(query for _, query in asked)))
    base = {re.sub(r"_(bucket|count|sum)$", "", name) if name not in known else name for name in used}
    tally.check(f"all {len(base)} metrics in rules and dashboard are the gateway's", base - known - {"tidegate_rules"})

    empty = []
    for title, query in asked:
        if not prometheus.ask(filled_in(query)) and not any(name in query for name in NO_DATA_YET):
            empty.append(f"{title}: {query}")
    tally.check(f"all {len(asked)} queries of the dashboard are answered with data", empty)
