"""A client that ramps up: its limit grows with its use, and its own answers tell it so."""

import re
import time

import openai

from checks import equal, register
from servers import GROWING_GENERATED

ALL = []

# A limit grows at most once a minute here, at the end of a minute that used more than half of it.
STEPS = 2
RAMP_SECONDS_MAX = 150
# Of the limit at the start, per request: a dozen requests a minute are enough.
TOKENS = GROWING_GENERATED // 12
PAUSE_SECONDS = 0.5


def limit_told(answer):
    """Generated tokens per minute, as the answer's head says."""
    return int(re.search(r'"generated";q=(\d+)', answer.headers["ratelimit-policy"]).group(1))


@register(ALL, needs="answers at once", seconds_max=RAMP_SECONDS_MAX + 10)
def ramp(house):
    """A client that uses its limit sees it grow, by a quarter each time, in the headers of its own answers."""
    begun = time.monotonic()
    told = []
    refused = 0
    while len(told) <= STEPS and time.monotonic() - begun < RAMP_SECONDS_MAX:
        try:
            house.ask("growing", **house.kind.exactly(TOKENS))
        except openai.RateLimitError:
            refused += 1
        limit = limit_told(house.last())
        equal(int(house.last().headers["x-ratelimit-limit-tokens-generated"]), limit // 60, "tokens per second")
        if not told or told[-1][1] != limit:
            told.append((time.monotonic() - begun, limit))
        time.sleep(PAUSE_SECONDS)

    print("      " + ", then ".join(f"{limit} a minute at {at:.0f} s" for at, limit in told), flush=True)
    grown = [int(GROWING_GENERATED * 1.25**step) for step in range(STEPS + 1)]
    equal([limit for _, limit in told], grown, "limits told")
    assert refused, "a client that asks for all that it may is told when it is too much"
