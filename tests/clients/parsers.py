"""How Python's json, Node's JSON.parse and Go's encoding/json read gateway/protocol/src/request/bodies.jsonl.

Each line of the table is one body and what an engine built on each parser would serve: model, stream, n and max tokens,
or "error" where it would refuse. The gateway's own test asserts that it refuses a body or reads what they read. This
script asserts that the table is right: it asks this Python and, where there is one, node; Go's rules are written out
below, since they are few (keys match whatever their case, with two letters beyond ASCII; the last of equal keys counts; a
value of another type is an error).

    python3 tests/clients/parsers.py            check
    python3 tests/clients/parsers.py --write    write the readings anew
"""

import json
import pathlib
import shutil
import subprocess
import sys

TABLE = pathlib.Path(__file__).resolve().parents[2] / "gateway/protocol/src/request/bodies.jsonl"
KEYS = ["model", "stream", "n", "max_tokens", "max_completion_tokens"]

NODE = """
const lines = require('fs').readFileSync(0, 'utf8').trim().split('\\n');
for (const line of lines) {
  let read = null;
  try {
    const value = JSON.parse(new TextDecoder('utf-8').decode(Buffer.from(line, 'hex')));
    if (value && typeof value === 'object' && !Array.isArray(value)) {
      read = {};
      for (const key of ['model', 'stream', 'n', 'max_tokens', 'max_completion_tokens'])
        if (Object.hasOwn(value, key)) read[key] = value[key];
    }
  } catch (e) {}
  console.log(JSON.stringify(read));
}
"""


def body_of(case):
    return bytes.fromhex(case["hex"]) if "hex" in case else case["body"].encode("utf-8", "surrogatepass")


def lax(members, reads_numbers_in_text):
    """What an engine makes of the members: pydantic's lax rules, which vLLM and SGLang have, or none at all."""
    try:
        model = members.get("model")
        if not isinstance(model, str):
            return "error"
        model.encode()  # a lone surrogate cannot be looked up, logged or answered with
        limits = [integer(members.get(key), reads_numbers_in_text) for key in KEYS[3:]]
        return {
            "model": model,
            "stream": boolean(members.get("stream"), reads_numbers_in_text) or False,
            "n": integer(members.get("n"), reads_numbers_in_text) or 1,
            # Of two maxima engines obey the newer one.
            "max": limits[1] if limits[1] is not None else limits[0],
        }
    except (ValueError, TypeError, OverflowError, RecursionError):
        return "error"


def integer(value, in_text):
    if value is None:
        return None
    if isinstance(value, bool):
        if in_text:
            return int(value)
        raise ValueError(value)
    if isinstance(value, float) and value != int(value):
        raise ValueError(value)
    if isinstance(value, str) and not in_text:
        raise ValueError(value)
    if not isinstance(value, (int, float, str)):
        raise TypeError(value)
    number = int(value)
    if number < 0:
        raise ValueError(value)  # engines refuse it, or take it for "no maximum": never for less
    return number


def boolean(value, in_text):
    if value is None or isinstance(value, bool):
        return value
    if in_text and isinstance(value, (int, float, str)):
        word = str(value).lower().removesuffix(".0")
        if word in ("1", "true", "t", "yes", "y", "on"):
            return True
        if word in ("0", "false", "f", "no", "n", "off"):
            return False
    raise ValueError(value)


def read_python(body):
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return "error"
    return lax(value, True) if isinstance(value, dict) else "error"


def fold(key):
    return "".join({"\u017f": "s", "\u212a": "k"}.get(letter, letter.lower()) for letter in key)


def read_go(body):
    try:
        text = body.decode("utf-8", "replace")
        constant = lambda name: (_ for _ in ()).throw(ValueError(name))
        pairs = json.loads(text, object_pairs_hook=lambda pairs: pairs, parse_constant=constant)
    except (ValueError, RecursionError):
        return "error"
    if not text.lstrip().startswith("{"):
        return "error"
    members = {}
    for key, value in pairs:
        if fold(key) not in KEYS or value is None:
            continue
        if isinstance(value, float) and fold(key) in KEYS[2:]:
            return "error"
        members[fold(key)] = value
    return lax(members, False)


def read_node(bodies):
    node = shutil.which("node")
    if node is None:
        return None
    lines = "\n".join(body.hex() or "20" for body in bodies)
    done = subprocess.run([node, "-e", NODE], input=lines, capture_output=True, text=True, check=True)
    read = [json.loads(line) for line in done.stdout.splitlines()]
    return ["error" if members is None else lax(members, True) for members in read]


def main():
    cases = [json.loads(line) for line in TABLE.read_text("utf-8").splitlines()]
    bodies = [body_of(case) for case in cases]
    node = read_node(bodies)
    wrong = 0
    for at, (case, body) in enumerate(zip(cases, bodies)):
        readings = {"python": read_python(body), "go": read_go(body)}
        if node is not None:
            readings["node"] = node[at]
        if "--write" in sys.argv:
            case.update(readings)
            continue
        for parser, reading in readings.items():
            if case[parser] != reading:
                wrong += 1
                print(f"{case['name']}: {parser} reads {reading}, the table says {case[parser]}")
    if "--write" in sys.argv:
        TABLE.write_text("".join(json.dumps(case) + "\n" for case in cases), "utf-8")
    print(f"{len(cases)} bodies, {2 if node is None else 3} parsers, {wrong} readings differ from the table")
    sys.exit(wrong > 0)


main()
