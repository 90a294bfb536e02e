"""The house under test: engines and the gateway before them, on free ports of loopback, stopped by their ids."""

import json
import time

import openai

from programs import Program, digest, free_port, read, wait_for

CALL_SECONDS_MAX = 45

MODEL = "tiny"
# The same model on an engine of its own with four places, of which regular requests may hold three: easy to overload.
NARROW_MODEL = "tiny-narrow"
NARROW_PLACES = 4
# Its engine has less room than the others, where it can be told so; tokens.
NARROW_CONTEXT = 4096
# Whoever crowds it is to meet its load, however fast the engine is, and not the own budget.
NARROW_GENERATED = 10_000_000
NARROW_LIMITS = f"start: {{ generated: {NARROW_GENERATED} }}, ceiling: {{ generated: {NARROW_GENERATED} }}"
# Engines of the open deployment, and one more for the narrow one: a replica belongs to one deployment.
OPEN_REPLICAS = 2

# What each account is there for. A key is what a client sends; the config holds its digest.
ACCOUNTS = {
    "entitled": "may use both tiers, regular unless it asks",
    "always-priority": "gets priority without asking",
    "regular-only": "may not use priority",
    "large": "sends large prompts",
    "untouched": "has spent nothing, so that its limits can be read",
    "untouched-counts": "only ever counts tokens",
    "small": "has a tiny budget of generated tokens",
    "short": "may never send more than a few prompt tokens a minute",
    "growing": "ramps up and sees its limit grow",
}
TIERS = {"entitled": ["priority", "regular"], "always-priority": ["priority", "regular"]}
DEFAULT_TIER = {"always-priority": "priority"}
# Limits of their own, tokens per minute.
SHORT_PROMPT = 1000
GROWING_GENERATED = 2400
LIMITS = {
    "small": "start: { generated: 240 }, ceiling: { generated: 240 }",
    "growing": f"start: {{ generated: {GROWING_GENERATED} }}",
    "short": f"start: {{ prompt: {SHORT_PROMPT} }}, ceiling: {{ prompt: {SHORT_PROMPT} }}",
}


def small_account(client, api):
    """The account of a client and an API that has a tiny budget of generated tokens."""
    return f"small-{client}-{api}"


def key_of(account):
    return f"tg-test-{account}"


# What a check needs of the engine: what only llama.cpp says, and vectors that are large.
LLAMA = "llama.cpp"
WIDE = "llama.cpp with wide vectors"


class Simulated:
    """`tidegate engine`: answers of a given length and pace, and faults on demand."""

    name = "simulated"
    engine = "vllm"
    served_model = MODEL
    # Under overload: the second one has to wait until a regular request ends, which is within a second.
    priority_clients = 2

    def __init__(self, tidegate):
        self.tidegate = tidegate

    # Answers are as long as asked for.
    is_exact = True

    def can(self, needs):
        return needs not in (LLAMA, WIDE)

    def speaks(self, api):
        return True

    def user_for(self, tokens):
        """What makes an answer that long, besides its maximum."""
        return f"sim:output={tokens}"

    def start(self, folder, number):
        command = [self.tidegate, "engine", "--address", "127.0.0.1:0", "--profile", "instant", "--model", MODEL]
        if number > OPEN_REPLICAS:
            command += ["--context", NARROW_CONTEXT]
        program = Program(command, folder / f"engine-{number}.log", folder)
        return program, lambda: program.said(r"\bon (http://[0-9.:]+)")

    def exactly(self, tokens):
        """What makes an answer that long."""
        return {"max_tokens": tokens, "user": f"sim:output={tokens}"}

    def slowly(self):
        """What makes an answer take about a second."""
        # No gap between tokens: a plain answer would come at once.
        return {"max_tokens": 20, "user": "sim:output=20,delay=1s"}


class Llama:
    """A real llama-server with a tiny random model."""

    name = "llama"
    engine = "llamacpp"
    served_model = "tiny"
    # How long an answer takes is the machine's affair here: one, which always has the place that regular may not take.
    priority_clients = 1

    def __init__(self, server, model):
        self.server = server.resolve()
        self.model = model.resolve()

    is_exact = False

    def can(self, needs):
        return needs in ("", LLAMA)

    def speaks(self, api):
        return api in ("chat", "completions", "responses", "messages")

    def user_for(self, tokens):
        return None

    # What it is started for.
    # An answer is as long as was asked for: the end of text is one of 4,096 random tokens.
    options = ["-c", 16384, "-np", 4, "--jinja", "--ignore-eos"]

    def start(self, folder, number):
        port = free_port()
        command = [self.server, "-m", self.model, "--alias", self.served_model, "--host", "127.0.0.1", "--port", port]
        command += [*self.options, "-t", 1, "--metrics", "--slots"]
        program = Program(command, folder / f"engine-{number}.log", folder)

        def address():
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/health", program)
            return url

        return program, address

    def exactly(self, tokens):
        return {"max_tokens": tokens, "extra_body": {"ignore_eos": True}}

    def slowly(self):
        return self.exactly(300)


class LlamaEmbeddings(Llama):
    """The same, started for embeddings: it answers nothing else then."""

    name = "llama-embeddings"
    # A text has to fit into one batch.
    options = ["-c", 16384, "-np", 2, "-b", 8192, "-ub", 8192, "--embeddings", "--pooling", "mean"]

    def can(self, needs):
        return needs == "embeddings"

    def speaks(self, api):
        return False


class LlamaWide(LlamaEmbeddings):
    """The same with a model whose vectors are wide, and which is slower by as much."""

    name = "llama-wide"

    def can(self, needs):
        return needs == WIDE


class House:
    """Engines of one kind and a gateway; a client for each account; all answers that came by."""

    def __init__(self, tidegate, kind, folder, speakers):
        self.tidegate = tidegate
        self.kind = kind
        self.folder = folder
        self.speakers = speakers
        # What held, by client and API: the cells of the table.
        self.cells = {}
        self.programs = []
        self.notes = {}
        # Every HTTP answer that came by, in order, those that the SDK retried too.
        self.seen = []
        note = lambda response: self.seen.append(Answer(response))
        self.http = openai.DefaultHttpxClient(timeout=CALL_SECONDS_MAX, event_hooks={"response": [note]})

    def __enter__(self):
        self.folder.mkdir(parents=True)
        try:
            engines = [self.kind.start(self.folder, number) for number in range(1, OPEN_REPLICAS + 2)]
            self.programs += [program for program, _ in engines]
            replicas = [address() for _, address in engines]
            config = self.folder / "tidegate.yaml"
            config.write_text(config_text(self.kind, replicas, self.speakers))
            command = [self.tidegate, "serve", "--config", config]
            self.gateway = Program(command, self.folder / "gateway.log", self.folder)
            self.programs.append(self.gateway)
            self.url = self.gateway.said(r"listening on (http://[0-9.:]+)")
            self.admin = self.gateway.said(r"admin on (http://[0-9.:]+)")
            wait_for(f"{self.admin}/readyz", self.gateway)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.http.close()
        # The gateway first, so that it does not see its engines go.
        for program in reversed(self.programs):
            program.stop()

    def stop_gateway(self):
        """Ends the gateway before its time; its exit status."""
        return self.gateway.stop()

    def client(self, account, prefix="", retries=0):
        """The SDK, speaking as `account` over the connections that all share."""
        url = f"{self.url}{prefix}/v1"
        return openai.OpenAI(api_key=key_of(account), base_url=url, max_retries=retries, http_client=self.http)

    def ask(self, account, text="Say something.", prefix="", retries=0, model=MODEL, **more):
        """One chat completion."""
        messages = [{"role": "user", "content": text}]
        return self.client(account, prefix, retries).chat.completions.create(model=model, messages=messages, **more)

    def stream(self, account, **more):
        """All chunks of one streamed chat completion."""
        messages = [{"role": "user", "content": "Say something."}]
        return list(self.client(account).chat.completions.create(model=MODEL, messages=messages, stream=True, **more))

    def metrics(self):
        """The lines of the gateway's metrics."""
        return read(f"{self.admin}/metrics").splitlines()

    def last(self):
        """The last HTTP answer that came by."""
        return self.seen[-1]


class Answer:
    """The head of an HTTP answer, and when it came."""

    def __init__(self, response):
        self.at = time.monotonic()
        self.status = response.status_code
        self.headers = response.headers


def config_text(kind, replicas, speakers):
    """The gateway's config: what has a default is left to it."""
    common = f"engine: {kind.engine}, slo: {{ ttft_ms: 2000, tpot_ms: 100 }}"
    lines = [
        f'listen: {{ address: "127.0.0.1:{free_port()}" }}',
        f'admin: {{ address: "127.0.0.1:{free_port()}" }}',
        "deployments:",
        f"  - {{ name: open, replicas: {json.dumps(replicas[:OPEN_REPLICAS])}, {common} }}",
        f"  - {{ name: narrow, replicas: {json.dumps(replicas[OPEN_REPLICAS:])}, limit: {NARROW_PLACES}, {common} }}",
        "models:",
        f"  - {{ name: {MODEL}, deployments: [open], served_model: {kind.served_model} }}",
        f"  - {{ name: {NARROW_MODEL}, deployments: [narrow], served_model: {kind.served_model} }}",
        "limits: { growth: { every_minutes: 1 } }",
        "accounts:",
    ]
    small = [small_account(speaker.client, speaker.api) for speaker in speakers]
    for account in [*ACCOUNTS, *small]:
        tiers = ", ".join(TIERS.get(account, ["regular"]))
        lines.append(f"  - id: {account}")
        lines.append(f'    keys: ["{digest(key_of(account))}"]')
        lines.append(f"    tiers: [{tiers}]")
        lines.append(f"    default_tier: {DEFAULT_TIER.get(account, 'regular')}")
        limits = LIMITS["small"] if account in small else LIMITS.get(account)
        lines.append(f"    limits:\n      - {{ model: {NARROW_MODEL}, {NARROW_LIMITS} }}")
        if limits:
            lines.append(f"      - {{ model: {MODEL}, {limits} }}")
    return "\n".join(lines) + "\n"
