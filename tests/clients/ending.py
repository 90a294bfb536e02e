"""The end: what must hold of the whole run, and once the traffic is over."""

import json
import time
import urllib.request

from checks import equal, register

ALL = []

REST_SECONDS_MAX = 10


@register(ALL)
def request_ids(house):
    """No two answers of the whole run have the same request id."""
    ids = [answer.headers.get("x-request-id") for answer in house.seen]

    assert all(ids), f"{ids.count(None)} of {len(ids)} answers have no id"
    equal(len(set(ids)), len(ids), "different ids")


@register(ALL)
def at_rest(house):
    """At rest every counter that must be zero is zero."""
    deadline = time.monotonic() + REST_SECONDS_MAX
    while True:
        with urllib.request.urlopen(f"{house.admin}/api/v1/invariants", timeout=5) as answer:
            left = numbers(json.load(answer))
        assert left, "no counter was listed"
        left = {name: count for name, count in left.items() if count}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    equal(left, {}, "counters that are not zero")


def numbers(value, name=""):
    """All numbers of a JSON value, by path."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        return {name: value} if isinstance(value, (int, float)) and not isinstance(value, bool) else {}
    return {path: count for key, part in parts for path, count in numbers(part, f"{name}/{key}").items()}


@register(ALL)
def ends_when_told(house):
    """The gateway ends when it is told to, with nothing wrong."""
    equal(house.stop_gateway(), 0, "exit status")
