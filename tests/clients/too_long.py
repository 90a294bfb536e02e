"""Prompts that are too long: each client recognises the refusal as what it is, whoever refuses, and can do something about it.

Clients look for words and codes: LiteLLM for a sentence, LangChain for a code with OpenAI's API and for other words with
Anthropic's. What they raise decides whether a program shortens the conversation, takes a larger model, or gives up.
"""

import anthropic
import langchain_anthropic
import langchain_openai
import litellm
import openai
from langchain_core.exceptions import ContextOverflowError

import servers
from checks import equal, raises, register

ALL = []

# More tokens than the narrow deployment's engine has room for, in every vocabulary.
TEXT = "The tide comes in and the gate goes up. " * 1500
ACCOUNT = "large"
MESSAGES = [{"role": "user", "content": TEXT}]
ASKED = dict(model=servers.NARROW_MODEL, max_tokens=5)
# With the fallback: it is the model of the same name with more room.
LARGER = "a larger window beside"


def tried(house):
    """Upstream errors that the gateway counted against the narrow deployment."""
    lines = [line for line in house.metrics() if line.startswith("tidegate_upstream_errors_total") and '"narrow"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@register(ALL)
def openai_sdk(house):
    """A prompt that is too long: OpenAI's SDK sees a 400 with code context_length_exceeded, whole and streamed."""
    before = tried(house)
    for streamed in (False, True):
        create = house.client(ACCOUNT).chat.completions.create
        fault = raises(openai.BadRequestError, lambda: create(messages=MESSAGES, stream=streamed, **ASKED))
        equal((fault.type, fault.code), ("invalid_request_error", "context_length_exceeded"), "type and code")
        assert "maximum context length is" in fault.body["message"], fault.body
    equal(tried(house), before, "failures counted against the engine")


@register(ALL)
def openai_sdk_responses(house):
    """A prompt that is too long: the same from /v1/responses."""
    create = house.client(ACCOUNT).responses.create
    fault = raises(openai.BadRequestError, lambda: create(model=servers.NARROW_MODEL, input=TEXT, max_output_tokens=5))

    equal(fault.code, "context_length_exceeded", "code")


@register(ALL)
def anthropic_sdk(house):
    """A prompt that is too long: Anthropic's SDK sees a 400 that says prompt is too long."""
    client = anthropic.Anthropic(api_key=servers.key_of(ACCOUNT), base_url=house.url, max_retries=0)
    fault = raises(anthropic.BadRequestError, lambda: client.messages.create(messages=MESSAGES, **ASKED))

    equal(fault.body["error"]["type"], "invalid_request_error", "type")
    assert fault.body["error"]["message"].startswith("prompt is too long: "), fault.body


def through_litellm(house, provider):
    base = f"{house.url}/v1" if provider == "openai" else house.url
    return dict(model=f"{provider}/{servers.NARROW_MODEL}", api_base=base, api_key=servers.key_of(ACCOUNT))


@register(ALL)
def litellm_openai(house):
    """A prompt that is too long: LiteLLM raises ContextWindowExceededError with OpenAI's API, whole and streamed."""
    for streamed in (False, True):
        asked = dict(messages=MESSAGES, max_tokens=5, max_retries=0, stream=streamed)
        raises(litellm.ContextWindowExceededError, lambda: litellm.completion(**through_litellm(house, "openai"), **asked))


@register(ALL)
def litellm_anthropic(house):
    """A prompt that is too long: LiteLLM raises ContextWindowExceededError with Anthropic's API."""
    asked = dict(messages=MESSAGES, max_tokens=5, max_retries=0)
    raises(litellm.ContextWindowExceededError, lambda: litellm.completion(**through_litellm(house, "anthropic"), **asked))


@register(ALL, needs=LARGER)
def litellm_falls_back(house):
    """A prompt that is too long: LiteLLM's router takes the model that it is told to fall back to."""
    larger = dict(model=f"openai/{servers.MODEL}", api_base=f"{house.url}/v1", api_key=servers.key_of(ACCOUNT))
    router = litellm.Router(
        model_list=[
            {"model_name": "small", "litellm_params": through_litellm(house, "openai")},
            {"model_name": "large", "litellm_params": larger},
        ],
        context_window_fallbacks=[{"small": ["large"]}],
        num_retries=0,
    )
    answer = router.completion(model="small", messages=MESSAGES, max_tokens=5)

    assert answer.choices[0].message.content, "no text"
    assert answer.usage.prompt_tokens > servers.NARROW_CONTEXT, answer.usage


@register(ALL)
def langchain_with_openai(house):
    """A prompt that is too long: LangChain's ChatOpenAI raises ContextOverflowError, whole and streamed."""
    base = f"{house.url}/v1"
    model = langchain_openai.ChatOpenAI(base_url=base, api_key=servers.key_of(ACCOUNT), max_retries=0, **ASKED)
    raises(ContextOverflowError, lambda: model.invoke(TEXT))
    raises(ContextOverflowError, lambda: list(model.stream(TEXT)))


@register(ALL)
def langchain_with_anthropic(house):
    """A prompt that is too long: LangChain's ChatAnthropic raises ContextOverflowError, whole and streamed."""
    model = langchain_anthropic.ChatAnthropic(
        base_url=house.url, api_key=servers.key_of(ACCOUNT), max_retries=0, **ASKED
    )
    raises(ContextOverflowError, lambda: model.invoke(TEXT))
    raises(ContextOverflowError, lambda: list(model.stream(TEXT)))
