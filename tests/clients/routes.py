"""Routes without an answer in words: embeddings, rerank, score, counting; metered like all others."""

import json
import re
import urllib.error
import urllib.request

import anthropic
import openai

import matrix
import servers
from checks import equal, raises, register
from refusals import listed

ALL = []

# A llama-server gives embeddings when it was started for them, and then nothing else; it ranks with models made for it.
EMBEDDINGS = "embeddings"
RANKING = "ranking"
ACCOUNT = "entitled"
MODELS = [servers.MODEL, servers.NARROW_MODEL]


def post(house, path, body, account=ACCOUNT):
    """One request without an SDK: status, headers, body."""
    request = urllib.request.Request(
        f"{house.url}{path}",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {servers.key_of(account)}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=servers.CALL_SECONDS_MAX) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.headers, json.load(refusal)


def left(headers, meter):
    """Exact tokens left of a meter."""
    return int(listed(headers["ratelimit"])[meter]["r"])


@register(ALL, needs=EMBEDDINGS)
def embeddings(house):
    """Embeddings: one vector for each input, and usage without generated tokens."""
    answer = house.client("untouched-counts").embeddings.create(model=servers.MODEL, input=["one", "two", "three"])

    equal(len(answer.data), 3, "vectors")
    assert answer.usage.prompt_tokens >= 3, answer.usage
    headers = house.last().headers
    equal(left(headers, "generated"), int(listed(headers["ratelimit-policy"])["generated"]["q"]), "generated tokens left")


@register(ALL, needs=EMBEDDINGS)
def embeddings_are_charged(house):
    """The inputs of an embedding are charged to the prompt, their sum."""
    words = ["tide " * 1500] * 5

    # The first teaches how long a token is here: what is left counts a request's own estimate.
    answers = [post(house, "/v1/embeddings", {"model": servers.MODEL, "input": words}, "large") for _ in range(3)]
    _, first, second = answers

    equal([answer[0] for answer in answers], [200, 200, 200], "statuses")
    spent = left(first[1], "prompt") - left(second[1], "prompt")
    used = first[2]["usage"]["prompt_tokens"]
    assert abs(spent - used) <= used / 4, f"{spent} spent for {used} tokens"


@register(ALL, needs=EMBEDDINGS)
def embeddings_over_budget(house):
    """An account over its prompt budget gets 429 for embeddings too."""
    words = "tide " * (4 * servers.SHORT_PROMPT)
    client = house.client("short")

    fault = raises(openai.RateLimitError, lambda: client.embeddings.create(model=servers.MODEL, input=words))

    equal(fault.code, "prompt_tokens_limited", "code")


@register(ALL, needs="embeddings beside chat")
def embeddings_under_load(house):
    """Under load embeddings of regular accounts get 503."""
    with matrix.crowd(house):
        client = house.client("regular-only")
        fault = raises(openai.InternalServerError, lambda: insist(client))

    equal((fault.status_code, fault.code), (503, "load_shed"), "status and code")


def insist(client):
    for _ in range(50):
        client.embeddings.create(model=servers.NARROW_MODEL, input="one")


@register(ALL, needs=RANKING)
def rerank(house):
    """Rerank: every document with its relevance, best first."""
    body = {"model": servers.MODEL, "query": "tide", "documents": ["the tide is high", "bread", "gate"]}
    status, headers, answer = post(house, "/v1/rerank", body)

    equal(status, 200, f"status of {answer}")
    equal(len(answer["results"]), 3, "results")
    scores = [result["relevance_score"] for result in answer["results"]]
    equal(scores, sorted(scores, reverse=True), "order")
    assert headers["ratelimit"], "no limit headers"


@register(ALL, needs=RANKING)
def score(house):
    """Score: a number for each pair."""
    body = {"model": servers.MODEL, "text_1": "tide", "text_2": ["the tide is high", "bread"]}
    status, headers, answer = post(house, "/v1/score", body)

    equal(status, 200, f"status of {answer}")
    equal(len(answer["data"]), 2, "scores")
    assert headers["ratelimit"], "no limit headers"


@register(ALL)
def count_tokens(house):
    """Anthropic's SDK counts the tokens of a prompt, and nothing is generated for it."""
    client = anthropic.Anthropic(api_key=servers.key_of("untouched-counts"), base_url=house.url, max_retries=0)

    counted = client.messages.count_tokens(
        model=servers.MODEL, messages=[{"role": "user", "content": "The tide is high this morning. " * 20}]
    )

    assert 60 <= counted.input_tokens <= 400, counted


@register(ALL)
def models(house):
    """The models are listed to both families of SDKs, each in its own shape."""
    client = anthropic.Anthropic(api_key=servers.key_of("untouched-counts"), base_url=house.url, max_retries=0)
    listed = client.models.list()
    equal([(model.type, model.id) for model in listed], [("model", name) for name in MODELS], "models of Anthropic's SDK")
    equal(client.models.retrieve(servers.MODEL).display_name, servers.MODEL, "display name")
    raises(anthropic.NotFoundError, lambda: client.models.retrieve("none"))

    equal([model.id for model in house.client("untouched-counts").models.list()], MODELS, "models of OpenAI's SDK")
    raises(openai.NotFoundError, lambda: house.client("untouched-counts").models.retrieve("none"))


@register(ALL)
def unknown_route(house):
    """A route that is not there is told so in the API's shape, and nothing reaches an engine."""
    for path in ("/v1/audio/speech", "/v1/images/generations", "/metrics", "/v1/chat/completions/../x"):
        status, headers, answer = post(house, path, {"model": servers.MODEL})
        equal(status, 404, f"status of {path}")
        equal(headers["x-tidegate-reason"], "not-found", f"reason of {path}")
        assert re.search(r"\w", answer["error"]["message"]), answer
