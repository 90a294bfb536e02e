"""Clients that we did not write, each brought to one form: what is asked, what its user sees.

A speaker takes an `Ask` and gives a `Seen`, whatever the SDK calls these things. The JavaScript SDKs run in one Node
process (`node/speak.mjs`) that takes a line for each call.
"""

import dataclasses
import itertools
import json
import os
import subprocess
import threading
import time

# Its own copy of a price list, not one from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import anthropic
import litellm
import openai

import programs
import servers

litellm.suppress_debug_info = True

# Longer than any call may take.
NODE_SECONDS_MAX = 90


@dataclasses.dataclass(frozen=True)
class Ask:
    account: str
    tokens: int
    stream: bool = False
    tier: str | None = None
    retries: int = 0
    model: str = servers.MODEL
    text: str = "Say something."
    # What a simulated engine is to do.
    user: str | None = None


@dataclasses.dataclass
class Seen:
    """What the user of an SDK saw of one call. `error` has kind, status, type, code and message."""

    text: str = ""
    finish: str | None = None
    prompt: int | None = None
    completion: int | None = None
    tier: str | None = None
    error: dict | None = None
    # Every HTTP answer in order, those that the SDK retried too: at, status, headers.
    answers: list = dataclasses.field(default_factory=list)


class PythonSdk:
    """Runs one SDK call and notes what came of it."""

    def ask(self, house, ask):
        seen = Seen()

        def note(response):
            seen.answers.append({"at": time.time(), "status": response.status_code, "headers": dict(response.headers)})

        try:
            self.call(house, ask, seen, note)
        except Exception as error:  # Whatever the SDK raises is what its user sees.
            seen.error = fault_of(error)
        return seen


def fault_of(error):
    """What went wrong, in the words of all SDKs alike."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else {}
    return {
        "kind": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "type": getattr(error, "type", None) or inner.get("type"),
        "code": getattr(error, "code", None) or inner.get("code"),
        "message": str(error),
    }


def openai_client(house, ask, note):
    http = openai.DefaultHttpxClient(timeout=servers.CALL_SECONDS_MAX, event_hooks={"response": [note]})
    return openai.OpenAI(
        api_key=servers.key_of(ask.account), base_url=f"{house.url}/v1", max_retries=ask.retries, http_client=http
    )


def extras(ask):
    """The members that all OpenAI shapes have."""
    extra = {"service_tier": ask.tier} if ask.tier else {}
    return extra | ({"user": ask.user} if ask.user else {})


class OpenAiChat(PythonSdk):
    client, api = "openai-python", "chat"

    def call(self, house, ask, seen, note):
        create = openai_client(house, ask, note).chat.completions.create
        body = dict(model=ask.model, messages=[{"role": "user", "content": ask.text}], max_tokens=ask.tokens)
        if not ask.stream:
            read_chat(seen, create(**body, extra_body=extras(ask)))
            return
        options = dict(stream=True, stream_options={"include_usage": True})
        for chunk in create(**body, **options, extra_body=extras(ask)):
            read_chat_chunk(seen, chunk)


def read_chat(seen, answer):
    seen.text = answer.choices[0].message.content
    seen.finish = answer.choices[0].finish_reason
    read_chat_end(seen, answer)


def read_chat_chunk(seen, chunk):
    for choice in chunk.choices[:1]:
        seen.text += choice.delta.content or ""
        seen.finish = choice.finish_reason or seen.finish
    read_chat_end(seen, chunk)


def read_chat_end(seen, part):
    seen.tier = getattr(part, "service_tier", None) or seen.tier
    usage = getattr(part, "usage", None)
    if usage:
        seen.prompt, seen.completion = usage.prompt_tokens, usage.completion_tokens


class OpenAiCompletions(PythonSdk):
    client, api = "openai-python", "completions"

    def call(self, house, ask, seen, note):
        create = openai_client(house, ask, note).completions.create
        body = dict(model=ask.model, prompt=ask.text, max_tokens=ask.tokens, extra_body=extras(ask))
        if not ask.stream:
            answer = create(**body)
            seen.text, seen.finish = answer.choices[0].text, answer.choices[0].finish_reason
            read_chat_end(seen, answer)
            return
        for chunk in create(**body, stream=True, stream_options={"include_usage": True}):
            for choice in chunk.choices[:1]:
                seen.text += choice.text or ""
                seen.finish = choice.finish_reason or seen.finish
            read_chat_end(seen, chunk)


class OpenAiResponses(PythonSdk):
    client, api = "openai-python", "responses"

    def call(self, house, ask, seen, note):
        create = openai_client(house, ask, note).responses.create
        body = dict(model=ask.model, input=ask.text, max_output_tokens=ask.tokens, extra_body=extras(ask))
        if not ask.stream:
            answer = create(**body)
            seen.text = answer.output_text
            self.end(seen, answer)
            return
        for event in create(**body, stream=True):
            if event.type == "response.output_text.delta":
                seen.text += event.delta
            elif event.type in ("response.completed", "response.incomplete"):
                self.end(seen, event.response)
            elif event.type in ("response.failed", "error"):
                # This SDK yields them as events; its user has to look.
                raise RuntimeError(f"event {event.type}")

    @staticmethod
    def end(seen, response):
        why = response.incomplete_details and response.incomplete_details.reason
        seen.finish, seen.tier = why or response.status, response.service_tier
        if response.usage:
            seen.prompt, seen.completion = response.usage.input_tokens, response.usage.output_tokens


class AnthropicMessages(PythonSdk):
    client, api = "anthropic-python", "messages"

    def call(self, house, ask, seen, note):
        http = anthropic.DefaultHttpxClient(timeout=servers.CALL_SECONDS_MAX, event_hooks={"response": [note]})
        client = anthropic.Anthropic(
            api_key=servers.key_of(ask.account), base_url=house.url, max_retries=ask.retries, http_client=http
        )
        body = dict(model=ask.model, messages=[{"role": "user", "content": ask.text}], max_tokens=ask.tokens)
        extra = {"service_tier": ask.tier} if ask.tier else {}
        if ask.user:
            body["metadata"] = {"user_id": ask.user}
        if not ask.stream:
            self.end(seen, client.messages.create(**body, extra_body=extra))
            return
        with client.messages.stream(**body, extra_body=extra) as stream:
            for text in stream.text_stream:
                seen.text += text
            self.end(seen, stream.get_final_message())

    @staticmethod
    def end(seen, message):
        seen.text = "".join(block.text for block in message.content if block.type == "text")
        seen.finish, seen.tier = message.stop_reason, message.usage.service_tier
        seen.prompt, seen.completion = message.usage.input_tokens, message.usage.output_tokens


class LiteLlmChat(PythonSdk):
    client, api = "litellm", "chat"

    def call(self, house, ask, seen, note):
        # Its own client is the OpenAI SDK; ours is that too, but says what came by.
        body = dict(
            model=f"openai/{ask.model}",
            api_base=f"{house.url}/v1",
            messages=[{"role": "user", "content": ask.text}],
            max_tokens=ask.tokens,
            client=openai_client(house, ask, note),
            max_retries=ask.retries,
            extra_body=extras(ask),
        )
        if not ask.stream:
            read_chat(seen, litellm.completion(**body))
            return
        for chunk in litellm.completion(**body, stream=True, stream_options={"include_usage": True}):
            read_chat_chunk(seen, chunk)


class NodeSdk:
    """An SDK in the Node process."""

    def __init__(self, node, client, api):
        self.node, self.client, self.api = node, client, api

    def ask(self, house, ask):
        call = dataclasses.asdict(ask) | {"key": servers.key_of(ask.account), "url": house.url}
        return Seen(**self.node.call(call | {"client": self.client, "api": self.api}))


class Node:
    """The Node process: calls go in as lines and come back as lines, in any order."""

    def __init__(self, script, log):
        self.log = open(log, "wb")
        self.process = subprocess.Popen(
            ["node", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.waiting = {}
        threading.Thread(target=self.read, daemon=True).start()

    def call(self, call):
        number = next(self.numbers)
        slot = {"there": threading.Event()}
        with self.lock:
            self.waiting[number] = slot
            self.process.stdin.write(json.dumps(call | {"id": number}) + "\n")
            self.process.stdin.flush()
        if not slot["there"].wait(NODE_SECONDS_MAX):
            raise TimeoutError(f"no word from Node; see {self.log.name}")
        return slot["seen"]

    def read(self):
        for line in self.process.stdout:
            seen = json.loads(line)
            slot = self.waiting.pop(seen.pop("id"))
            slot["seen"] = seen
            slot["there"].set()

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(programs.STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


PYTHON = [OpenAiChat(), OpenAiCompletions(), OpenAiResponses(), AnthropicMessages(), LiteLlmChat()]
JAVASCRIPT = [
    ("openai-node", "chat"),
    ("openai-node", "completions"),
    ("openai-node", "responses"),
    ("anthropic-node", "messages"),
    ("vercel-ai", "chat"),
]


def all_speakers(node):
    """Every client with every API that it is tried with."""
    return PYTHON + [NodeSdk(node, client, api) for client, api in JAVASCRIPT]
