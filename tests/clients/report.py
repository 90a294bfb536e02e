"""What was run, as a table of APIs, clients and engines.

    python report.py RESULTS README            # writes the table into README, between its two marks
    python report.py RESULTS README --check    # exit 1 if another one is there

RESULTS is the `clients.json` of a run; `reports/clients.json` is that of the run whose table README.md shows.
"""

import importlib.metadata
import json
import pathlib
import sys

PYTHON_PACKAGES = ("openai", "anthropic", "litellm", "langchain-openai", "langchain-anthropic")
NODE_PACKAGES = ("openai", "@anthropic-ai/sdk", "ai", "@ai-sdk/openai-compatible")
BEGIN, END = "<!-- what was run: begin -->", "<!-- what was run: end -->"
# Routes without a row in the matrix: the checks that try them, by the beginning of their sentences.
ROUTES = {
    "`/v1/embeddings`": ("openai-python", ("Embeddings", "The inputs of an embedding", "An account over its prompt budget gets 429 for", "Under load embeddings")),
    "`/v1/rerank`": ("plain HTTP", ("Rerank",)),
    "`/v1/score`": ("plain HTTP", ("Score",)),
    "`/v1/messages/count_tokens`": ("anthropic-python", ("Anthropic's SDK counts",)),
    "prompts that are too long": ("openai, anthropic, litellm, langchain (Python)", ("A prompt that is too long",)),
    "what llama.cpp does its own way": ("openai-python, plain HTTP", ("llama.cpp",)),
    "`/v1/models`": ("openai-python, anthropic-python", ("The models are listed",)),
}
# In the order in which README.md explains them.
THINGS = ("plain", "stream", "usage", "tier", "429", "503", "break")
PATHS = {"chat": "chat/completions", "completions": "completions", "responses": "responses", "messages": "messages"}


def versions(node):
    """Of every client, as installed."""
    found = {f"{name} (Python)": importlib.metadata.version(name) for name in PYTHON_PACKAGES}
    for name in NODE_PACKAGES:
        package = pathlib.Path(node).parent / "node_modules" / name / "package.json"
        found[f"{name} (Node)"] = json.loads(package.read_text())["version"]
    return found


def write(file, versions, cells, outcomes):
    """Keeps a run's results."""
    rows = [
        {"engine": engine, "client": client, "api": api, "things": things}
        for engine, of_engine in cells.items()
        for (client, api), things in of_engine.items()
    ]
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    checks = ",\n".join("  " + json.dumps(outcome, ensure_ascii=False) for outcome in outcomes)
    head = json.dumps(versions)
    file.write_text(f'{{"versions": {head},\n "matrix": [\n{lines}\n ],\n "checks": [\n{checks}\n ]}}\n')


def table(results):
    """The table, as Markdown."""
    engines = list(dict.fromkeys(outcome["engine"] for outcome in results["checks"]))
    lines = ["| API | client | " + " | ".join(engines) + " |", "|---|---|" + "---|" * len(engines)]
    of = {(row["api"], row["client"], row["engine"]): row["things"] for row in results["matrix"]}
    for api, client in dict.fromkeys((row["api"], row["client"]) for row in results["matrix"]):
        shown = [things(of.get((api, client, engine), {})) for engine in engines]
        lines.append(f"| `/v1/{PATHS[api]}` | {client} | " + " | ".join(shown) + " |")
    for route, (client, beginnings) in ROUTES.items():
        shown = [checked(results["checks"], engine, beginnings) for engine in engines]
        lines.append(f"| {route} | {client} | " + " | ".join(shown) + " |")
    totals = []
    for engine in engines:
        oks = [outcome["ok"] for outcome in results["checks"] if outcome["engine"] == engine]
        totals.append(f"{sum(oks)} of {len(oks)}")
    lines.append("| all checks | | " + " | ".join(totals) + " |")
    clients = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return "\n".join(lines) + f"\n\nClients: {clients}."


def things(cell):
    """What held of the matrix's things."""
    if not cell:
        return "–"
    failed = [name for name, held in cell.items() if held != "ok"]
    held = [name for name in THINGS if name in cell]
    return "**fails: " + ", ".join(failed) + "**" if failed else ", ".join(held)


def checked(checks, engine, beginnings):
    held = [one["ok"] for one in checks if one["engine"] == engine and one["check"].startswith(beginnings)]
    return f"{sum(held)} of {len(held)} checks" if held else "–"


def main():
    results, readme = json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    text = f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}"
    if "--check" in sys.argv:
        sys.exit(0 if text == readme.read_text() else f"{readme} does not show {sys.argv[1]}")
    readme.write_text(text)


if __name__ == "__main__":
    main()
