"""Programs under test: started on free ports of loopback, waited for by what they say, and stopped by their ids.

Nothing but the standard library, so that every script of `tests/` can use it.
"""

import hashlib
import http.client
import json
import pathlib
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 10


class StartError(Exception):
    """A program did not come up; says what it said."""


class Program:
    """One process that we started, with its output in a file."""

    def __init__(self, command, log, cwd=None):
        self.log = pathlib.Path(log)
        self.output = open(self.log, "wb")
        command = [str(part) for part in command]
        self.process = subprocess.Popen(command, stdout=self.output, stderr=subprocess.STDOUT, cwd=cwd)

    def said(self, pattern):
        """The first group of `pattern` in what the program printed, once it is there."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            found = re.search(pattern, self.log.read_text(errors="replace"))
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        tail = self.log.read_text(errors="replace")[-1500:]
        raise StartError(f"{self.log.stem} did not say {pattern!r}; exit {self.process.poll()}; it said:\n{tail}")

    def stop(self):
        """Ends it, asking first. The exit status, or `None` where asking did not help."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None
        finally:
            self.output.close()


class Programs:
    """Those of one run, for a `with`: what was started last is stopped first."""

    def __init__(self, tidegate, folder):
        self.tidegate = pathlib.Path(tidegate).resolve()
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program in reversed(self.running):
            program.stop()

    def start(self, name, *command):
        program = Program(command, self.folder / f"{name}.log", self.folder)
        self.running.append(program)
        return program

    def engine(self, name, model, *options):
        """A simulated engine; the program and its address."""
        address = ("--address", "127.0.0.1:0", "--model", model)
        program = self.start(name, self.tidegate, "engine", *address, *options)
        return program, program.said(r"\bon (http://[0-9.:]+)")

    def gateway(self, config):
        """The gateway with that config; the program, where customers connect, and where operators do."""
        file = self.folder / "tidegate.yaml"
        file.write_text(config)
        program = self.start("gateway", self.tidegate, "serve", "--config", file)
        url = program.said(r"listening on (https?://[0-9.:]+)")
        admin = program.said(r"admin on (http://[0-9.:]+)")
        wait_for(f"{admin}/readyz", program)
        return program, url, admin


class Traffic:
    """Requests of one kind from some threads, one after the other each, until told to stop."""

    def __init__(self, url, key, body, threads=1, pause=0.05, headers=None):
        self.request = (f"{url}/v1/chat/completions", key, body, headers or {})
        self.pause = pause
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while not self.ended.is_set():
            try:
                ask(*self.request)
            except (OSError, http.client.HTTPException):
                pass  # A broken answer, or a gateway that is gone, is told of by others than this.
            self.ended.wait(self.pause)

    def stop(self):
        self.ended.set()


def ask(url, key, body, headers=None, seconds=30):
    """Posts JSON; status, headers and body of the answer, whatever the status is."""
    head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), head)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read()


def read(url, seconds=5):
    """What a GET answers, as text."""
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return answer.read().decode()


def chat(model, **more):
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "Say something."}], **more}


def digest(key):
    """What the config holds of a key or a token."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url, program):
    """Returns once `url` answers 200."""
    deadline = time.monotonic() + START_SECONDS_MAX
    fault = None
    while time.monotonic() < deadline and program.process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError as error:
            fault = error
        time.sleep(0.05)
    raise StartError(f"{url} did not answer 200: {fault}")
