"""In a network of its own: a program without libraries serves, looks names up, plays a drill and hands over.

    python3 inside_static.py ROOT
"""

import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading

from programs import Program, ask, chat, read, wait_for
from service import Stream, eventually, loopback_up
from tally import Tally

ROOT = pathlib.Path(sys.argv[1])
KEY = "sk-of-the-trial"
URL, ADMIN = "http://127.0.0.1:8080", "http://127.0.0.1:9090"
A_RECORD = 1


def main():
    loopback_up()
    tally = Tally()
    asked = names()
    engines = [started(f"engine-{port}", "engine", "--any-model", "--address", f"127.0.0.1:{port}") for port in (8001, 8002)]
    for engine in engines:
        engine.said(r"\bon (http://[0-9.:]+)")
    tally.check("static: the README's config is in order", inside("check", "--config", "tidegate.yaml"))
    gateway = started("gateway", "serve", "--config", "tidegate.yaml")
    wait_for(f"{ADMIN}/readyz", gateway)
    before = serves(tally, asked)
    tally.check("static: it plays a drill", inside("drill", "day.yaml", "--virtual", "--config", "tidegate.yaml"))
    hands_over(tally, gateway, before)
    os.kill(process(), signal.SIGTERM)
    tally.check("static: the new one ends when told", "" if eventually(lambda: not process()) else "it serves on")
    for engine in engines:
        engine.stop()
    tally.end()


def started(name, *words):
    return Program(["chroot", ROOT, "/tidegate", *words], ROOT.parent / f"{name}.log")


def inside(*words):
    done = subprocess.run(["chroot", ROOT, "/tidegate", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return (done.stdout.strip()[-600:] or f"exit {done.returncode}").replace("\n", " | ") if done.returncode else ""


def serves(tally, asked):
    up = eventually(lambda: read(f"{ADMIN}/metrics").count("tidegate_replica_up{") >= 2)
    tally.check("static: both replicas are there", "" if up else "not both")
    answers = [ask("http://localhost:8080/v1/chat/completions", KEY, chat("llama-3.1-8b", max_tokens=4)) for _ in range(8)]
    tally.check("static: eight requests are answered", [body for status, _, body in answers if status != 200])
    lines = [line for line in read(f"{ADMIN}/metrics").splitlines() if line.startswith("tidegate_replica_up{")]
    up = [any(f'replica="{nth}"' in line and line.endswith(" 1") for line in lines) for nth in (0, 1)]
    tally.check("static: a name of /etc/hosts is found", "" if up[0] and "localhost" not in asked else lines)
    tally.check("static: a name of DNS is found", "" if up[1] and "engine.test" in asked else lines + sorted(asked))
    return process()


def hands_over(tally, gateway, before):
    stream = Stream(URL, KEY, 150)
    eventually(stream.runs)
    tally.check("static: it hands over", inside("upgrade", "--config", "tidegate.yaml"))
    after = process()
    tally.check("static: to another process", "" if after not in (0, before) else f"{before}, then {after}")
    tally.check("static: and the stream ends as it would have", stream.cut())
    tally.check("static: the old process ends with it", "" if eventually(lambda: gateway.process.poll() == 0) else gateway.process.poll())


def process():
    try:
        return json.loads(read(f"{ADMIN}/api/v1/version"))["pid"]
    except OSError:
        return 0


def names():
    """A DNS that knows one name; the names that it was asked for."""
    asked = set()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve():
        while True:
            query, client = server.recvfrom(512)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            kind = struct.unpack(">H", query[at + 1 : at + 3])[0]
            name = ".".join(labels)
            asked.add(name)
            known = name == "engine.test"
            record = b"\xc0\x0c" + struct.pack(">HHIH", A_RECORD, 1, 30, 4) + bytes([127, 0, 0, 1]) if known and kind == A_RECORD else b""
            flags = 0x8180 if known else 0x8183
            head = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if record else 0, 0, 0)
            server.sendto(head + query[12 : at + 5] + record, client)

    threading.Thread(target=serve, daemon=True).start()
    return asked


if __name__ == "__main__":
    main()
