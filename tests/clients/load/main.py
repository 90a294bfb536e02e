"""GuideLLM before the gateway, twice; a report of what both sides say.

    python main.py --tidegate PROGRAM --guidellm PROGRAM --tokenizer FOLDER --logs FOLDER --report FOLDER

Exit 0 if GuideLLM and the gateway agree on which requests were served and on their tokens.
"""

import argparse
import collections
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import programs

MODEL = "sim"
KEY = "tg-load"
REPLICAS = 2
PROMPT_TOKENS, OUTPUT_TOKENS = 600, 120
# Requests per second. Two replicas of the profile serve about 25 of these requests; what GuideLLM sends of a Poisson
# process is more than it was asked for, so the report has what the gateway saw.
RATES = {"served": 8, "overload": 24}
SECONDS = 40

CONFIG = """
listen: {{ address: "127.0.0.1:{port}" }}
admin: {{ address: "127.0.0.1:{admin}" }}
deployments:
  - name: d
    engine: vllm
    replicas: {replicas}
    slo: {{ ttft_ms: 2000, tpot_ms: 100 }}
models: [{{ name: sim, deployments: [d], size_class: small }}]
accounts:
  - id: load
    keys: ["{digest}"]
    spending_tier: enterprise
    requests_per_minute: 1000000
    concurrency: 100000
    limits:
      - model: sim
        start: {{ prompt: 1000000000, uncached_prompt: 1000000000, generated: 1000000000 }}
        floor: {{ prompt: 1000000000, uncached_prompt: 1000000000, generated: 1000000000 }}
        ceiling: {{ prompt: 1000000000, uncached_prompt: 1000000000, generated: 1000000000 }}
log: {{ access: "{access}", level: warn }}
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tidegate", "guidellm", "tokenizer", "logs", "report"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    return parser.parse_args()


def main():
    given = arguments()
    shutil.rmtree(given.logs, ignore_errors=True)
    given.report.mkdir(parents=True, exist_ok=True)
    runs = {name: run(given, name, rate) for name, rate in RATES.items()}
    version = subprocess.run([given.guidellm, "--version"], capture_output=True, text=True).stdout.split()[-1]
    told = {
        "tool": f"GuideLLM {version}",
        "load": f"Poisson, {SECONDS} s, {PROMPT_TOKENS} prompt and {OUTPUT_TOKENS} output tokens, streamed chat",
        "engines": f"{REPLICAS} simulated replicas, profile 8b-a100, in real time",
        "runs": runs,
    }
    (given.report / "guidellm.json").write_text(json.dumps(told, indent=1) + "\n")
    (given.report / "guidellm.md").write_text(page(told))
    print(page(told))
    differ = [fault for name, run in runs.items() for fault in faults(name, run)]
    print("\n".join(differ) or "GuideLLM and the gateway agree")
    sys.exit(1 if differ else 0)


def run(given, name, rate):
    """One load; what both sides say of it."""
    folder = given.logs / name
    with programs.Programs(given.tidegate, folder) as house:
        replicas = [house.engine(f"engine-{n}", MODEL, "--profile", "8b-a100")[1] for n in range(REPLICAS)]
        access = folder.resolve() / "access.log"
        ports = {"port": programs.free_port(), "admin": programs.free_port()}
        text = CONFIG.format(replicas=json.dumps(replicas), digest=programs.digest(KEY), access=access, **ports)
        _, url, _ = house.gateway(text)
        output = folder.resolve() / "guidellm.json"
        load(given, url, rate, output, folder)
        # The log is written in the background.
        time.sleep(1.5)
    tool = trimmed(json.loads(output.read_text()))
    return {"rate": rate, "gateway": compared(tool, counted(access)), "guidellm": tool}


def load(given, url, rate, output, folder):
    # `/health` is not a path of the API, so GuideLLM is told not to look for it.
    backend = f"kind=openai_http,target={url},model={MODEL},api_key={KEY},validate_backend=false"
    command = [given.guidellm, "run", "--disable-progress", "--backend", backend]
    command += ["--tokenizer", f"kind=huggingface_auto,model={given.tokenizer}"]
    command += ["--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={OUTPUT_TOKENS}"]
    command += ["--profile", f"kind=poisson,rate={rate}", "--constraint", f"kind=max_duration,seconds={SECONDS}"]
    command += ["--output", f"kind=json,path={output}"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    with open(folder / "guidellm.log", "wb") as log:
        subprocess.run([str(part) for part in command], check=True, env=offline, stdout=log, stderr=log)


def trimmed(report):
    """Of GuideLLM's report: what people look at."""
    benchmark = report["benchmarks"][0]
    metrics = benchmark["metrics"]

    def of(name):
        told = metrics[name]["successful"]
        percentiles = {name: round(told["percentiles"][name], 3) for name in ("p50", "p95", "p99")}
        return {"mean": round(told["mean"], 3), **percentiles}

    names = ("request_latency", "time_to_first_token_ms", "inter_token_latency_ms", "prompt_token_count", "output_token_count")
    return {
        "requests": metrics["request_totals"],
        "requests_per_second": round(metrics["requests_per_second"]["successful"]["mean"], 3),
        "seconds": round(benchmark["duration"], 1),
        **{name: of(name) for name in names},
        "warnings": [warning["message"] for warning in benchmark["warnings"] or []],
        "answers": [answer["response_id"] for answer in benchmark["requests"]["successful"]],
        "errors": dict(collections.Counter(str(one["info"]["error"])[:60] for one in benchmark["requests"]["errored"])),
    }


def counted(access):
    """What the gateway wrote of each request."""
    return [json.loads(line) for line in access.read_text().splitlines()]


def compared(tool, lines):
    """The gateway's numbers of the very requests that GuideLLM counts as served, and all refusals."""
    served = {"chatcmpl-" + line["request_id"].replace("_", ""): line for line in lines if line["status"] == 200}
    same = [served[answer] for answer in tool.pop("answers") if answer in served]
    middle = lambda values: round(statistics.median(values), 3) if values else None
    return {
        "answers_of_both": len(same),
        "prompt_tokens": round(statistics.fmean(line["prompt_tokens"] for line in same), 3) if same else None,
        "generated_tokens": round(statistics.fmean(line["generated_tokens"] for line in same), 3) if same else None,
        "ttft_ms_p50": middle([line["ttft_ms"] for line in same]),
        "total_s_p50": middle([line["total_ms"] / 1000 for line in same]),
        "queue_ms_p50": middle([line["queue_ms"] for line in same]),
        "seen_per_second": round(len(lines) / SECONDS, 1),
        "statuses": dict(collections.Counter(str(line["status"]) for line in lines)),
        "reasons": dict(collections.Counter(line["reason"] for line in lines if line["reason"])),
    }


def faults(name, run):
    """Where the two sides differ."""
    tool, gateway = run["guidellm"], run["gateway"]
    found = []
    served = tool["requests"]["successful"]
    if not served or gateway["answers_of_both"] != served:
        found.append(f"{name}: {served} served for GuideLLM, of which the gateway knows {gateway['answers_of_both']}")
    for ours, theirs in (("prompt_tokens", "prompt_token_count"), ("generated_tokens", "output_token_count")):
        if abs((gateway[ours] or 0) - tool[theirs]["mean"]) > 0.001:
            found.append(f"{name}: {ours} {gateway[ours]} and {tool[theirs]['mean']}")
    refused = gateway["statuses"].get("503", 0)
    if name == "served" and (tool["requests"]["errored"] or refused):
        found.append(f"{name}: {tool['requests']['errored']} errors, {refused} refusals")
    if name == "overload" and not (tool["requests"]["errored"] and refused):
        found.append(f"{name}: nothing was refused")
    return found


def page(told):
    """The report for people."""
    lines = [
        f"# {told['tool']} before the gateway",
        "",
        f"{told['load']}; {told['engines']}. Made by `tests/clients/load/run.sh`; trimmed to what people look at.",
        "What the gateway counted is of the very requests that GuideLLM counts as served.",
        "",
        "| | " + " | ".join(f"{name}: {run['rate']} requests/s asked for" for name, run in told["runs"].items()) + " |",
        "|---|" + "---|" * len(told["runs"]),
    ]
    spread = lambda values: f"{values['p50']:g} / {values['p95']:g} / {values['p99']:g}"
    rows = {
        "served, errors, under way at the end": lambda run: "{successful}, {errored}, {incomplete}".format(**run["guidellm"]["requests"]),
        "requests per second, gateway": lambda run: run["gateway"]["seen_per_second"],
        "served per second": lambda run: run["guidellm"]["requests_per_second"],
        "TTFT p50 / p95 / p99, ms": lambda run: spread(run["guidellm"]["time_to_first_token_ms"]),
        "time between tokens p50 / p95 / p99, ms": lambda run: spread(run["guidellm"]["inter_token_latency_ms"]),
        "whole answer p50 / p95 / p99, s": lambda run: spread(run["guidellm"]["request_latency"]),
        "tokens in and out, GuideLLM": lambda run: f"{run['guidellm']['prompt_token_count']['mean']} and {run['guidellm']['output_token_count']['mean']}",
        "tokens in and out, gateway": lambda run: f"{run['gateway']['prompt_tokens']} and {run['gateway']['generated_tokens']}",
        "TTFT p50, gateway, ms": lambda run: run["gateway"]["ttft_ms_p50"],
        "whole answer p50, gateway, s": lambda run: run["gateway"]["total_s_p50"],
        "statuses, gateway": lambda run: ", ".join(f"{status}: {count}" for status, count in run["gateway"]["statuses"].items()),
        "reasons, gateway": lambda run: ", ".join(f"{reason}: {count}" for reason, count in run["gateway"]["reasons"].items()) or "–",
        "errors, GuideLLM": lambda run: ", ".join(f"{error}: {count}" for error, count in run["guidellm"]["errors"].items()) or "–",
        "GuideLLM's own warnings": lambda run: " ".join(run["guidellm"]["warnings"]) or "–",
    }
    for name, of in rows.items():
        lines.append(f"| {name} | " + " | ".join(str(of(run)).replace("|", "/") for run in told["runs"].values()) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
