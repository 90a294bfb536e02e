"""The matrix: every client with every API that it speaks, each tried with the same seven things.

| thing | what must hold |
|---|---|
| plain | a whole answer has its text, its end and its usage |
| stream | a stream has the same |
| usage | what the SDK reports is what the engine generated |
| tier | the answer names the tier that was served, in streams too |
| 429 | an account over its budget waits as told, and is served |
| 503 | regular traffic is refused under load, with the SDK's own kind of error; priority is served |
| break | a stream that breaks off raises, after what had come |
"""

import concurrent.futures
import contextlib
import threading
import time

import servers
import speakers
from checks import CHECK_SECONDS_MAX, Check, equal

# In the order in which they run for a client; `429` runs for all clients at once, since each waits for its minute.
THINGS = ("plain", "stream", "usage", "tier", "429", "503", "break")

TOKENS = 20
# What each API calls the tiers.
OPENAI_TIERS = {"priority": "priority", "regular": "default"}
ANTHROPIC_TIERS = {"priority": "priority", "regular": "standard"}
ENDS = ("length", "stop", "max_tokens", "end_turn", "completed", "max_output_tokens")
OVERLOADS = {"messages": "overloaded_error"}

# See refusals.py: what an account spends at first, and what it asks for then.
SPENT, ASKED = 230, 120
SPENT_SECONDS_MIN = 15
LATE_SECONDS_MAX = 10

# More than the narrow deployment has places for regular requests, each for longer than a check takes.
CROWD = 6
CROWD_ASK = dict(max_tokens=600, user="sim:output=600,gap=50ms")


def checks(house):
    """All checks of this house; the first ones spend what the 429 checks then wait for."""
    able = [speaker for speaker in house.speakers if house.kind.speaks(speaker.api)]
    if not able:
        return []
    found = [Check("Each client's own account spends nearly its whole minute.", lambda house: spend(house, able), "", CHECK_SECONDS_MAX)]
    for speaker in able:
        for thing in THINGS:
            if thing == "429" or not house.kind.can(NEEDS.get(thing, "")):
                continue
            found.append(Check(sentence(speaker, thing), bound(speaker, thing), "", CHECK_SECONDS_MAX))
    found += [Check(sentence(speaker, "429"), waited(speaker), "", CHECK_SECONDS_MAX) for speaker in able]
    return found


# What a thing needs of the engine.
NEEDS = {"break": "faults on demand", "503": "faults on demand"}


def sentence(speaker, thing):
    return f"{speaker.client} {speaker.api}: {thing}"


def bound(speaker, thing):
    return lambda house: noted(house, speaker, thing, CALLS[thing])


def noted(house, speaker, thing, call):
    """Runs a check and notes for the table whether it held."""
    cell = house.cells.setdefault((speaker.client, speaker.api), {})
    cell[thing] = "FAIL"
    call(house, speaker)
    cell[thing] = "ok"


def exactly(house, tokens):
    """What makes an answer that long."""
    return {"tokens": tokens, "user": house.kind.user_for(tokens)}


def served(seen):
    assert seen.error is None, f"{seen.error}"
    return seen


def plain(house, speaker):
    seen = served(speaker.ask(house, speakers.Ask("entitled", **exactly(house, TOKENS))))

    assert seen.text, "no text"
    assert finish_of(seen) in ENDS, f"finish {seen.finish}"


def finish_of(seen):
    """Some SDKs say it with more around it."""
    return seen.finish.get("unified", seen.finish) if isinstance(seen.finish, dict) else seen.finish


def stream(house, speaker):
    seen = served(speaker.ask(house, speakers.Ask("entitled", stream=True, **exactly(house, TOKENS))))

    assert seen.text, "no text"
    assert finish_of(seen) in ENDS, f"finish {seen.finish}"


def usage(house, speaker):
    for streamed in (False, True):
        seen = served(speaker.ask(house, speakers.Ask("entitled", stream=streamed, **exactly(house, TOKENS))))
        how = "streamed" if streamed else "plain"
        if house.kind.is_exact:
            equal(seen.completion, TOKENS, f"completion tokens, {how}")
        assert seen.prompt and seen.prompt > 0, f"prompt tokens, {how}: {seen.prompt}"
        assert seen.completion and seen.completion > 0, f"completion tokens, {how}: {seen.completion}"


def tier(house, speaker):
    names = ANTHROPIC_TIERS if speaker.api == "messages" else OPENAI_TIERS
    wanted = [("entitled", "priority", "priority"), ("entitled", None, "regular"), ("regular-only", "priority", "regular")]
    for account, asked, tier_served in wanted:
        for streamed in (False, True):
            seen = served(speaker.ask(house, speakers.Ask(account, stream=streamed, tier=asked, **exactly(house, 5))))
            equal(seen.tier, names[tier_served], f"tier of {account} that asked for {asked}, streamed {streamed}")


def overload(house, speaker):
    with crowd(house):
        # Two tries: the crowd fills its places one by one.
        until = time.monotonic() + 10
        while True:
            ask = speakers.Ask("regular-only", model=servers.NARROW_MODEL, **exactly(house, 5))
            seen = speaker.ask(house, ask)
            if seen.error or time.monotonic() > until:
                break
        assert seen.error, "no regular request was refused"
        equal(seen.error["status"], 503, f"status in {seen.error}")
        equal(len(seen.answers), 1, "answers, without retries")
        assert "Service Overloaded" in seen.error["message"], f"{seen.error}"
        # LiteLLM and the Vercel SDK have no field for it.
        if seen.error["type"]:
            equal(seen.error["type"], OVERLOADS.get(speaker.api, "service_overloaded"), "type")
        headers = seen.answers[-1]["headers"]
        assert headers.get("x-should-retry") == "true" and headers.get("retry-after"), f"{headers}"

        asked = speakers.Ask("entitled", model=servers.NARROW_MODEL, tier="priority", **exactly(house, 5))
        served(speaker.ask(house, asked))


@contextlib.contextmanager
def crowd(house):
    """Regular requests on all places of the narrow deployment, and some that wait for one."""
    over = threading.Event()

    def stand():
        while not over.is_set():
            try:
                messages = [{"role": "user", "content": "Say something."}]
                answer = house.client("regular-only").chat.completions.create(
                    model=servers.NARROW_MODEL, messages=messages, stream=True, **CROWD_ASK
                )
                for _ in answer:
                    if over.is_set():
                        answer.close()
                        break
            except Exception:
                over.wait(0.2)

    with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
        for _ in range(CROWD):
            pool.submit(stand)
        time.sleep(0.5)
        try:
            yield
        finally:
            over.set()


def broken(house, speaker):
    ask = speakers.Ask("entitled", tokens=50, stream=True, user="sim:output=50,cut=6")
    seen = speaker.ask(house, ask)

    assert seen.error, f"the SDK took the broken stream for whole: {seen.text[:40]!r}, {seen.finish}"
    assert seen.text, "no text before the break"


CALLS = {"plain": plain, "stream": stream, "usage": usage, "tier": tier, "503": overload, "break": broken}


def small_account(speaker):
    return servers.small_account(speaker.client, speaker.api)


def spend(house, able):
    for speaker in able:
        seen = served(speaker.ask(house, speakers.Ask(small_account(speaker), **exactly(house, SPENT))))
        assert seen.completion, "no usage"
    house.notes["all spent at"] = time.monotonic()


def waited(speaker):
    """The waits of all clients run at once, the first time that one is asked for."""

    def call(house):
        if "waits" not in house.notes:
            house.notes["waits"] = wait_all(house)
        noted(house, speaker, "429", lambda house, speaker: judge_wait(house.notes["waits"][small_account(speaker)]))

    return call


def wait_all(house):
    able = [speaker for speaker in house.speakers if house.kind.speaks(speaker.api)]
    time.sleep(max(0.0, house.notes["all spent at"] + SPENT_SECONDS_MIN - time.monotonic()))
    with concurrent.futures.ThreadPoolExecutor(len(able)) as pool:
        def one(speaker):
            return speaker.ask(house, speakers.Ask(small_account(speaker), retries=1, **exactly(house, ASKED)))

        futures = {small_account(speaker): pool.submit(one, speaker) for speaker in able}
        return {account: future.result() for account, future in futures.items()}


def judge_wait(seen):
    served(seen)
    equal([answer["status"] for answer in seen.answers], [429, 200], "statuses")
    refused, answer = seen.answers
    equal(refused["headers"].get("x-tidegate-reason"), "generated_tokens_limited", "reason")
    told = int(refused["headers"]["retry-after-ms"]) / 1000
    waited_s = answer["at"] - refused["at"]
    # Some SDKs read whole seconds only, and all may be late on a busy machine.
    assert told - 0.05 <= waited_s <= told + LATE_SECONDS_MAX, f"told {told:.1f} s, waited {waited_s:.1f} s"


def table(house):
    """The matrix of this house, as lines of text."""
    head = f"{house.kind.name:<18}{'API':<14}" + "".join(f"{thing:<8}" for thing in THINGS)
    lines = [head]
    for (client, api), cell in house.cells.items():
        lines.append(f"{client:<18}{api:<14}" + "".join(f"{cell.get(thing, '–'):<8}" for thing in THINGS))
    return lines
