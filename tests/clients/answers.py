"""Answers: what a client asked for reaches it as the SDK expects, and nothing that it did not ask for."""

import json
import urllib.request

import openai

import servers
from checks import equal, raises, register

ALL = []

TOOL = {
    "type": "function",
    "function": {
        "name": "read_gauge",
        "description": "Reads a tide gauge.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
        },
    },
}
FORCED = {"type": "function", "function": {"name": "read_gauge"}}
# A llama-server with random weights writes no call, whatever `tool_choice` says.
CALLS = "calls of tools"
# An answer that is as long as its maximum ends for one reason or the other, as the engine sees it.
ENDS = ("length", "stop")
LARGE_PROMPT_BYTES = 2_000_000


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@register(ALL)
def plain(house):
    """A plain answer has a text, a reason to end and usage."""
    answer = house.ask("entitled", **house.kind.exactly(20))

    assert answer.choices[0].message.content, "no text"
    assert answer.choices[0].finish_reason in ENDS, answer.choices[0].finish_reason
    equal(answer.usage.completion_tokens, 20, "completion_tokens")
    assert answer.usage.prompt_tokens > 0, "no prompt tokens"


@register(ALL)
def stream_without_usage(house):
    """A stream that did not ask for usage has none."""
    chunks = house.stream("entitled", **house.kind.exactly(20))

    assert text_of(chunks), "no text"
    equal([chunk.usage for chunk in chunks if chunk.usage], [], "usage")
    equal([chunk for chunk in chunks if not chunk.choices], [], "chunks without a choice")
    assert chunks[-1].choices[0].finish_reason in ENDS, chunks[-1].choices[0].finish_reason


@register(ALL)
def stream_with_usage(house):
    """A stream that asked for usage ends with exactly one chunk of it."""
    chunks = house.stream("entitled", stream_options={"include_usage": True}, **house.kind.exactly(20))

    equal([bool(chunk.usage) for chunk in chunks].count(True), 1, "chunks with usage")
    equal(chunks[-1].choices, [], "choices of the usage chunk")
    equal(chunks[-1].usage.completion_tokens, 20, "completion_tokens")


@register(ALL)
def stream_that_refused_usage(house):
    """A stream that refused usage has none."""
    chunks = house.stream("entitled", stream_options={"include_usage": False}, **house.kind.exactly(5))

    equal([chunk.usage for chunk in chunks if chunk.usage], [], "usage")


@register(ALL, needs=CALLS)
def tool_call(house):
    """A forced tool call comes through with its name and arguments."""
    answer = house.ask("entitled", "How high is the water?", tools=[TOOL], tool_choice=FORCED, max_tokens=200)

    calls = answer.choices[0].message.tool_calls
    assert calls, f"no tool call but {answer.choices[0].message.content!r}"
    equal(calls[0].function.name, "read_gauge", "name")
    if answer.choices[0].finish_reason != "length":
        assert isinstance(json.loads(calls[0].function.arguments), dict), calls[0].function.arguments


@register(ALL, needs=CALLS)
def streamed_tool_call(house):
    """A forced tool call comes through in a stream, in pieces."""
    chunks = house.stream("entitled", tools=[TOOL], tool_choice=FORCED, max_tokens=200)

    deltas = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    equal([delta.function.name for delta in deltas if delta.function.name], ["read_gauge"], "names")
    assert "".join(delta.function.arguments or "" for delta in deltas), "no arguments"


@register(ALL, needs="a context without end")
def large_prompt(house):
    """A prompt of two megabytes reaches the engine whole."""
    words = "tide " * (LARGE_PROMPT_BYTES // 5)

    answer = house.ask("large", words, **house.kind.exactly(5))

    assert answer.usage.prompt_tokens > LARGE_PROMPT_BYTES // 20, f"{answer.usage.prompt_tokens} prompt tokens"


@register(ALL)
def prefix(house):
    """The API is also there under /inference."""
    answer = house.ask("entitled", prefix="/inference", **house.kind.exactly(5))

    assert answer.choices[0].message.content, "no text"


@register(ALL)
def models(house):
    """The models are listed and can be asked for one by one."""
    client = house.client("entitled")
    listed = [model.id for model in client.models.list()]
    one = client.models.retrieve(servers.MODEL)
    fault = raises(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"))

    equal(sorted(listed), [servers.MODEL, servers.NARROW_MODEL], "models")
    equal(one.id, servers.MODEL, "id")
    equal(fault.code, "model_not_found", "code")


@register(ALL)
def tier_served(house):
    """The answer names the tier that was served, and is never an echo."""
    wanted = [
        ("entitled", "priority", "priority"),
        ("entitled", "fast", "priority"),
        ("entitled", "flex", "default"),
        ("entitled", "default", "default"),
        ("entitled", "auto", "default"),
        ("entitled", None, "default"),
        ("always-priority", None, "priority"),
        ("always-priority", "auto", "priority"),
        ("always-priority", "default", "default"),
        ("regular-only", "priority", "default"),
    ]
    for account, asked, served in wanted:
        # As `extra_body`, since the SDK would not let every word through.
        body = {} if asked is None else {"service_tier": asked}
        answer = house.ask(account, extra_body=body, max_tokens=3)
        equal(answer.service_tier, served, f"{account} asked for {asked}")


@register(ALL)
def tier_served_in_chunks(house):
    """Every chunk with text names the tier that was served."""
    for account, served in (("entitled", "priority"), ("regular-only", "default")):
        chunks = house.stream(account, service_tier="priority", **house.kind.exactly(5))
        tiers = {chunk.service_tier for chunk in chunks if chunk.choices}
        equal(tiers, {served}, f"tiers of {account}")


@register(ALL)
def own_request_id(house):
    """A client's own request id is not taken over."""
    answer = house.ask("entitled", extra_headers={"x-request-id": "mine"}, max_tokens=3)

    assert answer._request_id and answer._request_id != "mine", f"id {answer._request_id!r}"
    equal(house.last().headers.get("request-id"), answer._request_id, "request-id")


@register(ALL)
def metrics(house):
    """The admin listener shows requests by model, tier and status."""
    with urllib.request.urlopen(f"{house.admin}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()

    counted = [line for line in lines if line.startswith("tidegate_requests_total{")]
    assert any('model="tiny"' in line and 'tier="priority"' in line and 'status="200"' in line for line in counted), (
        f"no count of priority answers in {counted[:5]}"
    )
