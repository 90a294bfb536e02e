"""What real engines were reported to do, asked of one of them through the gateway: refusals inside streams, and long `stop`s.

    python3 cases.py --gateway http://127.0.0.1:8080 --admin http://127.0.0.1:9090 --engine http://127.0.0.1:18000

For vLLM, whose own counter of generated tokens is what the bill is held against; the engine must serve nobody else
meanwhile. Prints a line for each case, `ok` or `FAIL`; exit 1 if one failed. Nothing but Python.
"""

import argparse
import concurrent.futures
import http.client
import json
import sys
import time
import urllib.parse

import try_engine

# A stop that never comes, long enough that the engine holds the text back while it looks for it.
STOP = "tide" * 12_500
STREAMS = 10
LEFT_AFTER_SECONDS = 6
# What is generated between the last word of a stream and the engine's stopping it, per stream: steps of a tiny model.
UNSEEN_TOKENS_MAX = 60


def metric(base, name):
    """The sum of a metric's series."""
    text = try_engine.call(base, "GET", "/metrics", key=None)[2]
    lines = [line for line in text.splitlines() if line.startswith((name + "{", name + " "))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def charged(admin):
    text = try_engine.call(admin, "GET", "/metrics", key=None)[2]
    lines = [line for line in text.splitlines() if line.startswith("tidegate_tokens_total{") and '"generated"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def leave(gateway, body, seconds):
    """Reads a stream for some seconds and leaves; the events that came."""
    url = urllib.parse.urlsplit(gateway)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=seconds + 30)
    headers = {"content-type": "application/json", "authorization": f"Bearer {try_engine.KEY}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    came, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        line = answer.readline()
        if not line:
            break
        came += line.startswith(b"data: ")
    connection.close()
    return answer.status, came


class Cases:
    def __init__(self, given):
        self.given = given
        self.failed = 0

    def say(self, name, held, seen):
        self.failed += not held
        print(f"{'ok  ' if held else 'FAIL'}  {name}: {seen}", flush=True)

    def refused_in_a_stream(self):
        """Case F01."""
        before = metric(self.given.admin, "tidegate_upstream_errors_total")
        schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nothing"}}}
        asked = {"model": try_engine.MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
        for what, more in {
            "a schema that is none": {"response_format": schema},
            "a pattern that does not parse": {"structured_outputs": {"regex": "("}},
            "a temperature below zero": {"temperature": -1},
            "more log probabilities than there are": {"logprobs": True, "top_logprobs": 10_000},
        }.items():
            for stream in (False, True):
                status, headers, text = try_engine.call(
                    self.given.gateway, "POST", "/v1/chat/completions", {**asked, **more, "stream": stream}
                )
                told = " ".join(text.split())[:150]
                self.say(f"case_f01 {what}, stream {stream}", status == 400, f"{status} {told}")
        blamed = metric(self.given.admin, "tidegate_upstream_errors_total") - before
        up = metric(self.given.admin, "tidegate_replica_up")
        self.say("case_f01 nobody is blamed", blamed == 0 and up == 1, f"{blamed:.0f} failures counted, {up:.0f} replica up")

    def long_stops(self):
        """Case R01."""
        asked = {
            "model": try_engine.MODEL, "max_tokens": 900, "ignore_eos": True, "stream": True, "stop": STOP,
            "messages": [{"role": "user", "content": "tide"}],
        }
        for what, more in {"a long stop": {}, "without it": {"stop": None}}.items():
            self.settle()
            generated, bill = metric(self.given.engine, "vllm:generation_tokens_total"), charged(self.given.admin)
            with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
                seen = list(pool.map(lambda _: leave(self.given.gateway, {**asked, **more}, LEFT_AFTER_SECONDS), range(STREAMS)))
            self.settle()
            generated = metric(self.given.engine, "vllm:generation_tokens_total") - generated
            bill = charged(self.given.admin) - bill
            served = [came for status, came in seen if status == 200]
            held = bill <= generated and generated - bill <= UNSEEN_TOKENS_MAX * max(1, len(served))
            self.say(
                f"case_r01 {what}, left after {LEFT_AFTER_SECONDS} s", held and generated > 0,
                f"{len(served)} of {STREAMS} served, {sum(served)} events; {generated:.0f} generated, {bill:.0f} charged",
            )

    def settle(self):
        """Until the engine computes nothing."""
        for _ in range(100):
            if metric(self.given.engine, "vllm:num_requests_running") == 0:
                break
            time.sleep(0.1)
        time.sleep(1.5)

    def limits(self):
        state = json.loads(try_engine.call(self.given.admin, "GET", "/api/v1/deployments", key=None)[2])
        replica = state["deployments"][0]["replicas"][0]
        self.say("the limit afterwards", replica["healthy"], f"N {replica['limit']}, gap {replica['gap_ms']:.1f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("gateway", "admin", "engine"):
        parser.add_argument(f"--{name}", required=True)
    cases = Cases(parser.parse_args())
    cases.refused_in_a_stream()
    cases.long_stops()
    cases.limits()
    sys.exit(1 if cases.failed else 0)


if __name__ == "__main__":
    main()
