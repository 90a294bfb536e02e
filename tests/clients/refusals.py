"""Refusals: a client learns whose limit it met, when to come back, and the SDK comes back then."""

import concurrent.futures
import math
import re
import time

import openai

import servers
from checks import equal, raises, register

FIRST = []
ALL = []

LIMIT_NAMES = {"prompt": "prompt", "uncached-prompt": "cache-adjusted-prompt", "generated": "generated"}
PER_MINUTE = {"prompt": 3_600_000, "uncached-prompt": 900_000, "generated": 36_000}
LOAD_REASONS = {"shed-predicted", "shed-saturated", "queue-full", "displaced", "queue-timeout", "deadline", "memory"}

# What the small account spends at first, and what it asks for then: too much together, even should the limit have
# grown by a quarter in between.
SPENT, ASKED = 230, 120
# A wait near to a whole minute is one that the gateway may call hopeless once it is spread out.
SPENT_SECONDS_MIN = 15
# How much later than told the SDK may come back on a busy machine.
LATE_SECONDS_MAX = 10

REGULAR_CLIENTS = 24
PRIORITY_CALLS = 4
OVERLOAD_SECONDS = 5


@register(FIRST)
def spend(house):
    """An account can spend nearly its whole minute at once."""
    answer = house.ask("small", **house.kind.exactly(SPENT))

    house.notes["spent at"] = time.monotonic()
    equal(answer.usage.completion_tokens, SPENT, "completion_tokens")


@register(ALL)
def unknown_key(house):
    """An unknown key is refused with 401, in the shape of the API."""
    fault = raises(openai.AuthenticationError, lambda: house.ask("nobody"))

    equal(fault.status_code, 401, "status")
    equal((fault.type, fault.code), ("invalid_request_error", "invalid_api_key"), "type and code")
    equal(house.last().headers.get("x-tidegate-reason"), "unauthenticated", "reason")


@register(ALL)
def unknown_model(house):
    """An unknown model is refused with 404, in the shape of the API."""
    fault = raises(openai.NotFoundError, lambda: house.ask("entitled", model="no-such-model"))

    equal((fault.type, fault.code), ("invalid_request_error", "model_not_found"), "type and code")
    equal(house.last().headers.get("x-tidegate-reason"), "not-found", "reason")


@register(ALL)
def malformed(house):
    """A body that is not what it should be is refused with 400."""
    fault = raises(openai.BadRequestError, lambda: house.ask("entitled", extra_body={"max_tokens": "many"}))

    equal(fault.type, "invalid_request_error", "type")
    equal(house.last().headers.get("x-tidegate-reason"), "bad-request", "reason")


@register(ALL)
def limit_headers(house):
    """The limit headers say tokens per second, and agree with those that say tokens per minute."""
    house.ask("untouched", **house.kind.exactly(20))

    assert_limit_headers(house.last().headers, PER_MINUTE)


def assert_limit_headers(headers, per_minute):
    policy = listed(headers.get("ratelimit-policy", ""))
    state = listed(headers.get("ratelimit", ""))
    for name, header in LIMIT_NAMES.items():
        limit = headers.get(f"x-ratelimit-limit-tokens-{header}")
        remaining = headers.get(f"x-ratelimit-remaining-tokens-{header}")
        assert limit and remaining, f"no limit headers for {header} in {dict(headers)}"
        assert name in policy and name in state, f"{name} is missing in {policy} or {state}"
        equal(int(limit), per_minute[name] // 60, f"limit of {header} per second")
        equal(policy[name], {"q": str(per_minute[name]), "qu": '"token"', "w": "60"}, f"policy of {name}")
        left = int(state[name]["r"])
        assert 0 <= left <= per_minute[name], f"{left} left of {name}"
        equal(int(remaining), math.floor(left / 60), f"remaining of {header} per second")
        assert int(state[name]["t"]) >= 0, f"t of {name}"


def listed(header):
    """A list of quoted names with parameters, as a dictionary of dictionaries."""
    found = {}
    for item in re.split(r",\s*", header):
        name, *parameters = item.split(";")
        found[name.strip('"')] = dict(parameter.strip().split("=", 1) for parameter in parameters)
    return found


@register(ALL)
def overload(house):
    """Under overload regular requests get 503, and every priority request is served."""
    until = time.monotonic() + OVERLOAD_SECONDS
    with concurrent.futures.ThreadPoolExecutor(REGULAR_CLIENTS + house.kind.priority_clients) as pool:
        regular = [pool.submit(insist, house, until) for _ in range(REGULAR_CLIENTS)]
        time.sleep(0.5)
        priority = [pool.submit(call_with_priority, house) for _ in range(house.kind.priority_clients)]
        shed = [fault for future in regular for fault in future.result()]
        served = [tier for future in priority for tier in future.result()]

    equal(served, ["priority"] * (house.kind.priority_clients * PRIORITY_CALLS), "tiers of the priority requests")
    assert shed, "no regular request was shed"
    for fault in shed:
        assert_shed(fault)


def insist(house, until):
    """Sends regular requests one after the other; the refusals."""
    faults = []
    while time.monotonic() < until:
        try:
            house.ask("regular-only", model=servers.NARROW_MODEL, **house.kind.slowly())
        except openai.InternalServerError as fault:
            faults.append(fault)
            # Less patient than told, else there is no overload.
            time.sleep(0.2)
    return faults


def call_with_priority(house):
    """Sends priority requests one after the other; the tiers that served them."""
    asked = dict(model=servers.NARROW_MODEL, service_tier="priority", **house.kind.slowly())
    return [house.ask("entitled", **asked).service_tier for _ in range(PRIORITY_CALLS)]


def assert_shed(fault):
    headers = fault.response.headers
    equal(fault.status_code, 503, "status")
    equal((fault.type, fault.code), ("service_overloaded", "load_shed"), "type and code")
    assert fault.body["message"].startswith("Service Overloaded"), fault.body
    assert headers.get("x-tidegate-reason") in LOAD_REASONS, f"reason {headers.get('x-tidegate-reason')}"
    assert "x-ratelimit-over-limit" not in headers, "a 503 is nobody's limit"
    assert_retry_headers(headers)
    assert_limit_headers(headers, PER_MINUTE | {"generated": servers.NARROW_GENERATED})


def assert_retry_headers(headers):
    """Both headers, the one in seconds being the other rounded up, or neither."""
    if headers.get("x-should-retry") == "false":
        return
    equal(headers.get("x-should-retry"), "true", "x-should-retry")
    milliseconds, seconds = headers.get("retry-after-ms"), headers.get("retry-after")
    assert milliseconds and seconds, f"retry-after-ms {milliseconds}, retry-after {seconds}"
    equal(int(seconds), min(60, max(1, math.ceil(int(milliseconds) / 1000))), "retry-after in seconds")


@register(ALL)
def own_limit(house):
    """An account over its budget gets 429, and the SDK that waits as told is served."""
    time.sleep(max(0.0, house.notes["spent at"] + SPENT_SECONDS_MIN - time.monotonic()))
    before = len(house.seen)

    # Each retry is a request of its own; what came by is in `seen`.
    answer = house.ask("small", retries=1, **house.kind.exactly(ASKED))

    refused, served = house.seen[before:]
    equal((refused.status, served.status), (429, 200), "statuses")
    equal(answer.usage.completion_tokens, ASKED, "completion_tokens")
    equal(refused.headers.get("x-tidegate-reason"), "generated_tokens_limited", "reason")
    equal(refused.headers.get("x-ratelimit-over-limit"), "yes", "x-ratelimit-over-limit")
    assert_retry_headers(refused.headers)
    told = int(refused.headers["retry-after-ms"]) / 1000
    waited = served.at - refused.at
    assert told <= waited <= told + LATE_SECONDS_MAX, f"told to wait {told:.1f} s, waited {waited:.1f} s"
    assert told <= 60, f"a minute is over in {told:.1f} s"


@register(ALL)
def hopeless(house):
    """A request that can never fit its budget is refused once and for all."""
    before = len(house.seen)

    words = "tide " * (4 * servers.SHORT_PROMPT)
    fault = raises(openai.RateLimitError, lambda: house.ask("short", words, retries=2, max_tokens=5))

    equal(len(house.seen) - before, 1, "tries of the SDK")
    equal(fault.code, "prompt_tokens_limited", "code")
    headers = fault.response.headers
    equal(headers.get("x-should-retry"), "false", "x-should-retry")
    equal([headers.get("retry-after"), headers.get("retry-after-ms")], [None, None], "retry-after")
