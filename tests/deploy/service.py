"""Inside the systemd of booted.py: what its services are asked, and a crowd that notices when one of them is away."""

import fcntl
import json
import pathlib
import socket
import struct
import subprocess
import threading
import time
import urllib.request

from programs import ask, chat

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
WAIT_SECONDS_MAX = 20
STREAM_SECONDS_MAX = 60


def loopback_up():
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", IFF_UP, b""))


def ran(*command, **more):
    """What a command says if it failed, else nothing."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    return (done.stdout.strip() or f"exit {done.returncode}").replace("\n", " | ") if done.returncode else ""


def said(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout.strip()


def systemctl(*words):
    """What systemd says if it failed, with what the service said, else nothing."""
    failed = ran("systemctl", *words, "tidegate.service")
    return f"{failed} | {journal()}" if failed else ""


def journal():
    return said("journalctl", "--no-pager", "--output=cat", "--unit=tidegate", "--lines=12").replace("\n", " | ")


def shown(prop):
    return said("systemctl", "show", "--value", f"--property={prop}", "tidegate.service")


def main_pid():
    return int(shown("MainPID"))


def program_of(pid):
    """The file that a process runs, which is `(deleted)` after another has taken its place."""
    return str(pathlib.Path(f"/proc/{pid}/exe").readlink())


def eventually(holds):
    """Whether it holds within a bound."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


class Stream:
    """One streamed answer, read to its end beside everything else."""

    def __init__(self, url, key, tokens):
        body = json.dumps(chat("llama-3.1-8b", stream=True, max_tokens=tokens, ignore_eos=True)).encode()
        head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.request = urllib.request.Request(f"{url}/v1/chat/completions", body, head)
        self.read = b""
        self.fault = ""
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            with urllib.request.urlopen(self.request, timeout=WAIT_SECONDS_MAX) as answer:
                while part := answer.read1(65536):
                    self.read += part
        except OSError as fault:
            self.fault = str(fault)

    def runs(self):
        return self.thread.is_alive() and self.read.count(b"data: ") > 2

    def cut(self):
        """What is missing of it, once it has ended."""
        self.thread.join(STREAM_SECONDS_MAX)
        return self.fault or ("" if b"data: [DONE]" in self.read else f"it ended after {len(self.read)} bytes")


class Crowd:
    """Requests on new connections, one after the other from each client, until told to stop."""

    def __init__(self, url, key, clients=4):
        self.asked = (f"{url}/v1/chat/completions", key, chat("llama-3.1-8b", max_tokens=8))
        self.outcomes = []
        self.over = threading.Event()
        self.clients = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for client in self.clients:
            client.start()

    def run(self):
        while not self.over.wait(0.01):
            try:
                status, _, _ = ask(*self.asked)
            except OSError as fault:
                status = str(fault)
            self.outcomes.append(status)

    def stop(self):
        """How many were answered, and what the others met."""
        self.over.set()
        for client in self.clients:
            client.join()
        return self.outcomes.count(200), [outcome for outcome in self.outcomes if outcome != 200]
