"""Breaks: what an engine does wrong is seen by the client as what it is, and never as its own fault."""

import openai

import servers
from checks import equal, raises, register

ALL = []

# A simulated engine does what the field `user` says after `sim:`.
FAULTS = "faults on demand"

# The order matters: an overload that an engine reports closes the deployment for a moment, so these come last.


@register(ALL, needs=FAULTS)
def cut_stream(house):
    """A stream that breaks in the middle raises in the SDK, after what had come."""
    received = []

    def read():
        asked = dict(model=servers.MODEL, messages=[{"role": "user", "content": "Say something."}], max_tokens=50)
        completions = house.client("entitled").chat.completions
        for chunk in completions.create(stream=True, user="sim:output=50,cut=3", **asked):
            received.append(chunk)

    raises(openai.APIError, read)
    assert any(chunk.choices and chunk.choices[0].delta.content for chunk in received), "no text before the break"


@register(ALL, needs=FAULTS)
def error_in_stream(house):
    """An error event in the middle of a stream raises in the SDK."""
    raises(openai.APIError, lambda: house.stream("entitled", user="sim:output=50,stream-error=3", max_tokens=50))


@register(ALL, needs=FAULTS)
def cut_answer(house):
    """A plain answer that breaks off becomes a 502, not half an answer."""
    fault = raises(openai.APIError, lambda: house.ask("entitled", user="sim:output=50,cut=20", max_tokens=50))

    equal(getattr(fault, "status_code", None), 502, "status")
    equal((fault.type, fault.code), ("api_error", "upstream_error"), "type and code")


@register(ALL, needs=FAULTS)
def engines_own_500(house):
    """An engine's 500 becomes a 502, since the gateway itself is well."""
    fault = raises(openai.InternalServerError, lambda: house.ask("entitled", user="sim:status=500", max_tokens=9))

    equal((fault.status_code, fault.code), (502, "upstream_error"), "status and code")


@register(ALL, needs=FAULTS)
def overload_in_first_event(house):
    """An overload that the engine hides in the first event of a 200 becomes a 503."""
    fault = raises(openai.InternalServerError, lambda: house.stream("entitled", user="sim:stream-error=0", max_tokens=9))

    equal((fault.status_code, fault.code), (503, "load_shed"), "status and code")


@register(ALL, needs=FAULTS)
def engines_own_429(house):
    """An engine's 429 is not the account's: it becomes a 503."""
    fault = raises(openai.InternalServerError, lambda: house.ask("entitled", user="sim:status=429", max_tokens=9))

    equal((fault.status_code, fault.code), (503, "load_shed"), "status and code")


@register(ALL, needs=FAULTS)
def no_fault_left(house):
    """After all these faults the engines are used again, by a client that comes back when told."""
    answer = house.ask("entitled", retries=2, max_tokens=5)

    assert answer.choices[0].message.content, "no text"
