"""What answers hold besides text, as SDKs put it together: reasoning, tool calls, several prompts, a prompt said again."""

import json

import anthropic

import servers
from answers import CALLS
from checks import equal, register

ALL = []

ACCOUNT = "entitled"
SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}}}
TOKENS = 24
REASONING = "reasoning"
SAY = [{"role": "user", "content": "How high is the water?"}]


def messages_of(house):
    return anthropic.Anthropic(api_key=servers.key_of(ACCOUNT), base_url=house.url, max_retries=0).messages


@register(ALL, needs=CALLS)
def messages_tool(house):
    """Anthropic's SDK gets a forced tool's input as an object, whole and put together from a stream."""
    ask = dict(model=servers.MODEL, max_tokens=TOKENS * 2, messages=SAY, tool_choice={"type": "any"})
    ask |= dict(tools=[{"name": "read_gauge", "input_schema": SCHEMA}], metadata={"user_id": f"sim:output={TOKENS}"})

    whole = messages_of(house).create(**ask)
    with messages_of(house).stream(**ask) as stream:
        streamed = stream.get_final_message()

    for answer in (whole, streamed):
        equal([(block.type, block.name) for block in answer.content], [("tool_use", "read_gauge")], "blocks")
        assert isinstance(answer.content[0].input, dict) and answer.content[0].input, answer.content
        equal((answer.stop_reason, answer.usage.output_tokens), ("tool_use", TOKENS), "stop reason and output tokens")


@register(ALL, needs=REASONING)
def messages_thinking(house):
    """Anthropic's SDK gets a block of thinking, signed, before the text."""
    ask = dict(model=servers.MODEL, max_tokens=TOKENS, messages=SAY, thinking={"type": "enabled", "budget_tokens": 1024})

    whole = messages_of(house).create(**ask)
    with messages_of(house).stream(**ask) as stream:
        streamed = stream.get_final_message()

    for answer in (whole, streamed):
        equal([block.type for block in answer.content], ["thinking", "text"], "blocks")
        thought, text = answer.content
        assert thought.thinking and thought.signature and text.text, answer.content
    equal(whole.usage.output_tokens, streamed.usage.output_tokens, "output tokens, streamed or not")


@register(ALL, needs=CALLS)
def responses_tool(house):
    """OpenAI's SDK gets a function call of the Responses API, its arguments JSON, whole and streamed."""
    tools = [{"type": "function", "name": "read_gauge", "parameters": SCHEMA}]
    ask = dict(model=servers.MODEL, input="How high is the water?", tools=tools, tool_choice="required", max_output_tokens=TOKENS)

    whole = house.client(ACCOUNT).responses.create(**ask)
    events = list(house.client(ACCOUNT).responses.create(stream=True, **ask))

    for answer in (whole, events[-1].response):
        equal([(item.type, item.name) for item in answer.output], [("function_call", "read_gauge")], "items")
        assert json.loads(answer.output[0].arguments), answer.output
        equal(answer.usage.output_tokens, TOKENS, "output tokens")
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    equal("".join(deltas), events[-1].response.output[0].arguments, "arguments put together")


@register(ALL, needs=REASONING)
def responses_reasoning(house):
    """OpenAI's SDK gets an item of reasoning before the message, and its tokens in usage."""
    ask = dict(model=servers.MODEL, input="How high is the water?", reasoning={"effort": "high"}, max_output_tokens=TOKENS)

    whole = house.client(ACCOUNT).responses.create(**ask)
    events = list(house.client(ACCOUNT).responses.create(stream=True, **ask))

    for answer in (whole, events[-1].response):
        equal([item.type for item in answer.output], ["reasoning", "message"], "items")
        assert answer.output_text, answer.output
        assert 0 < answer.usage.output_tokens_details.reasoning_tokens < answer.usage.output_tokens, answer.usage
    equal([event.sequence_number for event in events], list(range(len(events))), "sequence numbers")


@register(ALL, needs=REASONING)
def chat_reasoning(house):
    """Reasoning of chat comes beside the content, and is paid for as output."""
    chunks = house.stream(ACCOUNT, max_tokens=TOKENS, reasoning_effort="high", stream_options={"include_usage": True})

    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    thought = "".join(getattr(delta, "reasoning", None) or "" for delta in deltas)
    said = "".join(delta.content or "" for delta in deltas)
    assert thought and said, f"thought {thought!r}, said {said!r}"
    equal(chunks[-1].usage.completion_tokens, TOKENS, "completion tokens")


@register(ALL)
def prompts(house):
    """Each prompt of a list of completions is answered by itself."""
    extra = house.kind.exactly(6)
    answer = house.client(ACCOUNT).completions.create(model=servers.MODEL, prompt=["The tide", "A gate"], **extra)

    equal([choice.index for choice in answer.choices], [0, 1], "choices")
    assert all(choice.text for choice in answer.choices), answer.choices


@register(ALL, needs="prompts said again")
def echo(house):
    """A completion that is to say its prompt again begins with it, also in a stream."""
    ask = dict(model=servers.MODEL, prompt="The tide", echo=True, max_tokens=6)
    whole = house.client(ACCOUNT).completions.create(**ask)
    chunks = house.client(ACCOUNT).completions.create(stream=True, **ask)
    streamed = "".join(chunk.choices[0].text for chunk in chunks)

    assert whole.choices[0].text.startswith("The tide"), whole.choices
    equal(streamed, whole.choices[0].text, "streamed text")
