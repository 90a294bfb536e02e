"""What llama.cpp does differently from what one would think: its refusals, its large answers, its members.

Each is a report of somebody's gateway (`case_…`), tried here on the engine itself instead of on a mock that agrees with us.
"""

import contextlib
import json
import urllib.request

import openai

import servers
from checks import equal, raises, register
from routes import post
from servers import LLAMA, WIDE

ALL = []
ACCOUNT = "entitled"
# More than the gateway holds of a whole answer that it reads; and how many vectors make it.
LARGE_BYTES = 80_000_000
LARGE_INPUTS = 2_000
# On a slow machine; on a fast one five.
LARGE_SECONDS_MAX = 180
PICTURE = "data:image/png;base64,iVBORw0KGgo="


def chat(**more):
    return {"model": servers.MODEL, "max_tokens": 5, **more}


def says(text):
    return [{"role": "user", "content": text}]


@contextlib.contextmanager
def nobody_blamed(house):
    """Nothing is counted against a replica meanwhile, and all are up afterwards."""
    before = blame(house)
    yield
    equal(blame(house), before, "what is held against replicas")
    down = [line for line in house.metrics() if line.startswith("tidegate_replica_up") and not line.endswith(" 1")]
    equal(down, [], "replicas that are not up")


def blame(house):
    names = ("tidegate_upstream_errors_total", "tidegate_replica_ejections_total", "tidegate_retries_total")
    return [line for line in house.metrics() if line.startswith(names) and not line.endswith(" 0")]


def refused(house, path, body, status=400):
    """The error of an answer with that status."""
    seen, _, answer = post(house, path, body, ACCOUNT)
    equal(seen, status, f"status of {answer}")
    return answer["error"]


@register(ALL, needs=LLAMA)
def case_f02_pictures_for_a_text_model(house):
    """llama.cpp: a picture for a model that reads text is a 400 in its words, through three APIs, and blames nobody."""
    picture = {"type": "image_url", "image_url": {"url": PICTURE}}
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE.rpartition(",")[2]}
    with nobody_blamed(house):
        for streamed in (False, True):
            fault = refused(house, "/v1/chat/completions", chat(messages=says([picture]), stream=streamed))
            equal(fault["type"], "invalid_request_error", "type")
            assert fault["message"].startswith("image input is not supported"), fault
        fault = refused(house, "/v1/messages", chat(messages=says([{"type": "image", "source": source}])))
        assert fault["message"].startswith("image input is not supported"), fault
        parts = [{"type": "input_image", "image_url": PICTURE}]
        asked = {"model": servers.MODEL, "max_output_tokens": 5, "input": says(parts)}
        fault = refused(house, "/v1/responses", asked)
        assert fault["message"].startswith("image input is not supported"), fault


@register(ALL, needs=LLAMA)
def case_f02_broken_requests(house):
    """llama.cpp: what it refuses as broken, with whatever status, is never more than the request's own fault."""
    with nobody_blamed(house):
        for name, body in {
            "a message without a role": chat(messages=[{"content": "a"}]),
            "a schema that is none": chat(
                messages=says("a"),
                response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nothing"}}},
            ),
            "a grammar that does not parse": chat(messages=says("a"), grammar="root ::= ("),
            "tools that are none": chat(messages=says("a"), tools=[{"type": "function"}]),
        }.items():
            status, _, answer = post(house, "/v1/chat/completions", body, ACCOUNT)
            equal(status, 400, f"{name}: status of {answer}")
            assert answer["error"]["message"], f"{name}: no words"


@register(ALL, needs=LLAMA)
def case_f08_numbers_of_a_refusal(house):
    """llama.cpp: a prompt over its window keeps the engine's numbers, under OpenAI's code."""
    with nobody_blamed(house):
        words = "tide " * 9_000
        fault = refused(house, "/v1/chat/completions", chat(messages=says(words)))
        equal((fault["type"], fault["code"]), ("invalid_request_error", "context_length_exceeded"), "type and code")
        assert "maximum context length is 4096 tokens" in fault["message"], fault
        # Where the gateway itself knew better, the engine was not asked and there are none.
        if "n_prompt_tokens" in fault:
            assert fault["n_prompt_tokens"] > fault["n_ctx"], fault


@register(ALL, needs=LLAMA)
def case_r09_members_beside_usage(house):
    """llama.cpp: a stream that did not ask for usage keeps the timings that come with it, in the last chunk that stays."""
    asked = house.stream(ACCOUNT, max_tokens=5, stream_options={"include_usage": True})
    chunks = house.stream(ACCOUNT, max_tokens=5)

    equal([chunk for chunk in chunks if chunk.usage], [], "chunks with usage")
    timed = [index for index, chunk in enumerate(chunks) if "timings" in chunk.model_dump()]
    equal(timed, [len(chunks) - 1], "chunks with timings, the last one")
    assert any("timings" in chunk.model_dump() for chunk in asked), "none where usage was asked for"


@register(ALL, needs=LLAMA)
def case_r10_its_own_name_for_the_maximum(house):
    """llama.cpp: `n_predict` as only maximum is kept, and is what is billed."""
    for path, body in {
        "/v1/chat/completions": {"messages": says("a")},
        "/v1/completions": {"prompt": "a"},
    }.items():
        status, _, answer = post(house, path, {"model": servers.MODEL, "n_predict": 5, **body}, ACCOUNT)
        equal(status, 200, f"status of {answer}")
        equal(answer["usage"]["completion_tokens"], 5, f"generated by {path}")


@register(ALL, needs=WIDE, seconds_max=LARGE_SECONDS_MAX + 20)
def case_f06_a_large_answer(house):
    """llama.cpp: embeddings of 80 MB pass, and are computed once."""
    body = {"model": servers.MODEL, "input": ["a"] * LARGE_INPUTS}
    head = {"authorization": f"Bearer {servers.key_of('large')}", "content-type": "application/json"}
    request = urllib.request.Request(f"{house.url}/v1/embeddings", json.dumps(body).encode(), head)
    with nobody_blamed(house), urllib.request.urlopen(request, timeout=LARGE_SECONDS_MAX) as answer:
        text = answer.read()

    assert len(text) > LARGE_BYTES, f"{len(text)} bytes"
    vectors = json.loads(text)["data"]
    equal(len(vectors), LARGE_INPUTS, "vectors")


@register(ALL, needs=WIDE)
def case_f02_inputs_over_the_batch(house):
    """llama.cpp: an embedding over its physical batch is a 400 in its words, and blames nobody."""
    with nobody_blamed(house):
        client = house.client("large")
        words = "tide " * 12_000
        fault = raises(openai.BadRequestError, lambda: client.embeddings.create(model=servers.MODEL, input=words))
        assert "too large to process" in str(fault) or "maximum context length" in str(fault), fault
