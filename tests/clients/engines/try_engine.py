"""Tries the gateway before one real engine, route by route, and prints a transcript: what was asked, what came.

    python3 try_engine.py --gateway http://127.0.0.1:8080 --admin http://127.0.0.1:9090 --engine http://127.0.0.1:18000 --kind vllm

It needs nothing but Python. What is printed is what was seen; nothing is judged here but whether it was an answer.
"""

import argparse
import concurrent.futures
import http.client
import json
import time
import urllib.parse

KEY, PRIORITY_KEY = "tg-try", "tg-try-priority"
MODEL = "tiny"
SHOWN = 170


def call(base, method, path, body=None, key=KEY):
    """Status, headers and body of one call, each on a connection of its own."""
    url = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=120)
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, dict((name.lower(), value) for name, value in answer.getheaders()), text


def events(text):
    return [line[6:] for line in text.splitlines() if line.startswith("data: ")]


def usage_of(text):
    """The last usage in a body or in a stream."""
    found = None
    for part in [text] + events(text):
        try:
            value = json.loads(part)
        except ValueError:
            continue
        for holder in (value, value.get("response") or {}, value.get("message") or {}):
            found = holder.get("usage") or found
    return found


def show(what, status, headers, text, extra=""):
    stream = headers.get("content-type", "").startswith("text/event-stream")
    parts = [str(status)]
    if stream:
        parts.append(f"{len(events(text))} events, {'[DONE]' if '[DONE]' in text else 'no [DONE]'}")
    if headers.get("x-tidegate-reason"):
        parts.append("reason " + headers["x-tidegate-reason"])
    usage = usage_of(text)
    if usage:
        parts.append("usage " + json.dumps(usage))
    elif not stream:
        parts.append(" ".join(text.split())[:SHOWN])
    print(f"{what:<58} {'; '.join(parts)}{extra}", flush=True)


def routes(gateway):
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "What does the tide do at noon? " * 12}], "max_tokens": 8}
    long = {**chat, "messages": [{"role": "user", "content": "The tide comes in and goes out again. " * 40}]}
    tries = [
        ("POST /v1/chat/completions", "/v1/chat/completions", chat),
        ("  the same again: cached", "/v1/chat/completions", chat),
        ("  stream", "/v1/chat/completions", {**chat, "stream": True}),
        ("  stream with usage", "/v1/chat/completions", {**chat, "stream": True, "stream_options": {"include_usage": True}}),
        ("  two choices", "/v1/chat/completions", {**chat, "n": 2}),
        ("  with parameters that are denied here", "/v1/chat/completions", {**chat, "chat_template": "{{ x }}", "n_predict": 9000}),
        ("  with parameters that are left out", "/v1/chat/completions", {**chat, "priority": -9, "cache_salt": "x", "id_slot": 99}),
        ("  longer than the window, by the window that was learnt", "/v1/chat/completions", {**long, "messages": long["messages"] * 40}),
        ("POST /v1/completions", "/v1/completions", {"model": MODEL, "prompt": "The tide", "max_tokens": 8}),
        ("  stream", "/v1/completions", {"model": MODEL, "prompt": "The tide", "max_tokens": 8, "stream": True}),
        ("  two prompts", "/v1/completions", {"model": MODEL, "prompt": ["The tide", "The moon"], "max_tokens": 4}),
        ("POST /v1/responses", "/v1/responses", {"model": MODEL, "input": "The tide", "max_output_tokens": 8, "store": False}),
        ("  stream", "/v1/responses", {"model": MODEL, "input": "The tide", "max_output_tokens": 8, "store": False, "stream": True}),
        ("POST /v1/messages", "/v1/messages", {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "The tide"}]}),
        ("  stream", "/v1/messages", {"model": MODEL, "max_tokens": 8, "stream": True, "messages": [{"role": "user", "content": "The tide"}]}),
        ("POST /v1/messages/count_tokens", "/v1/messages/count_tokens", {"model": MODEL, "messages": [{"role": "user", "content": "The tide"}]}),
        ("POST /v1/embeddings", "/v1/embeddings", {"model": MODEL, "input": ["The tide", "The moon"]}),
        ("POST /v1/rerank", "/v1/rerank", {"model": MODEL, "query": "tide", "documents": ["The tide", "The moon"]}),
        ("POST /v1/score", "/v1/score", {"model": MODEL, "text_1": "tide", "text_2": ["The tide", "The moon"]}),
    ]
    for what, path, body in tries:
        show(what, *call(gateway, "POST", path, body))
    show("GET /v1/models", *call(gateway, "GET", "/v1/models"))
    show("GET /v1/models/tiny", *call(gateway, "GET", f"/v1/models/{MODEL}"))


def overload(gateway, at_once):
    """More at once than the engine takes: what of it comes back as what."""
    def one(number):
        body = {"model": MODEL, "messages": [{"role": "user", "content": f"tide {number}"}], "max_tokens": 120,
                "ignore_eos": True, "stream": number % 2 == 0}
        priority = number % 4 == 0
        if priority:
            body["service_tier"] = "priority"
        started = time.monotonic()
        status, headers, text = call(gateway, "POST", "/v1/chat/completions", body, PRIORITY_KEY if priority else KEY)
        hidden = status == 200 and any('"error"' in event for event in events(text))
        return ("priority" if priority else "regular", status, headers.get("x-tidegate-reason", ""), hidden, time.monotonic() - started)

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        seen = list(pool.map(one, range(at_once)))
    for tier in ("priority", "regular"):
        of_tier = [one for one in seen if one[0] == tier]
        counts = {}
        for _, status, reason, _, _ in of_tier:
            name = f"{status} {reason}".strip()
            counts[name] = counts.get(name, 0) + 1
        print(f"  {tier:<10} {len(of_tier)} sent: {counts}; slowest {max(one[4] for one in of_tier):.1f} s")
    print(f"  errors hidden in a 200: {sum(one[3] for one in seen)}; an engine's own 429 or 503 text: "
          f"{sum('currently busy' in str(one) for one in seen)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("gateway", "admin", "engine", "kind"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--at-once", type=int, default=24)
    given = parser.parse_args()
    print(f"# {given.kind}")
    if given.kind == "vllm":
        print("version", call(given.engine, "GET", "/version", key=None)[2])
    print("\n## routes\n")
    routes(given.gateway)
    print(f"\n## overload: {given.at_once} at once\n")
    overload(given.gateway, given.at_once)
    print("\n## what the gateway learnt\n")
    state = json.loads(call(given.admin, "GET", "/api/v1/deployments", key=None)[2])
    for deployment in state if isinstance(state, list) else state.get("deployments", [state]):
        for replica in deployment.get("replicas", []):
            print("  " + json.dumps(replica))
    rest = json.loads(call(given.admin, "GET", "/api/v1/invariants", key=None)[2])
    print("  at rest:", rest["at_rest"])
    metrics = call(given.admin, "GET", "/metrics", key=None)[2]
    for line in metrics.splitlines():
        if line.startswith(("tidegate_scrape_failures_total", "tidegate_usage_missing_total", "tidegate_upstream_errors_total")):
            print("  " + line)


if __name__ == "__main__":
    main()
