"""The way of a newcomer: every command of the README's section, word for word, in an empty folder, as one script.

Its ports are those of the README. Where another process has one of them, all four are exchanged for free ones, and that is
said.
"""

import os
import re
import signal
import socket
import subprocess
import time

from pages import blocks, section
from programs import ask, chat, digest, free_port

HEADING = "## A real config"
SCRIPT_SECONDS_MAX = 120
PORTS = ("8080", "9090", "8001", "8002")
# Between the commands, so that what each of them said can be told apart.
MARK = "---- block"


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError:
            return False
        return True


def exchanged(texts, tally):
    """The texts with ports that nobody has."""
    if all(is_free(port) for port in PORTS):
        return texts
    print(f"not the README's ports, one of which is in use: {', '.join(PORTS)}")
    new = {port: str(free_port()) for port in PORTS}
    return [re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: new[port.group()], text) for text in texts]


def script(found):
    """The blocks as a script: a command is a command, a file is written under the name that the text has."""
    lines = ["set -m", "exec 2>&1"]
    for nth, (block, text) in enumerate(found):
        lines.append(f"echo '{MARK} {nth}'")
        if block.kind == "yaml":
            name = "day.yaml" if text.startswith("drill:") else "tidegate.yaml"
            lines.append(f"cat >{name} <<'END_OF_FILE'\n{text}END_OF_FILE")
        else:
            lines.append(text)
    lines.append(f"echo '{MARK} end'")
    return "\n".join(lines) + "\n"


def run(given, programs, tally):
    readme = (given.house / "README.md").read_text()
    found = [block for block in blocks(section(readme, HEADING)) if block.kind in ("yaml", "sh")]
    texts = exchanged([block.text for block in found], tally)
    folder = programs.folder / "newcomer"
    folder.mkdir()
    (folder / "bin").mkdir()
    (folder / "bin/tidegate").symlink_to(given.tidegate.resolve())
    (folder / "deploy").symlink_to(given.house / "deploy")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE")}
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    said = output(script(list(zip(found, texts))), folder, environment)
    (programs.folder / "newcomer.log").write_text(said)
    parts = re.split(rf"^{MARK} (?:\d+|end)\n", said, flags=re.MULTILINE)[1:]
    tally.check("every block of the README was reached", "" if len(parts) == len(found) + 1 else said[-1500:])
    judge(found, parts, tally)
    forgotten(readme, programs, tally)


def forgotten(readme, programs, tally):
    """Case O08: who forgets `--any-model`, so that the engines have another model, is told which model is missing."""
    config = next(block.text for block in blocks(section(readme, HEADING)) if block.kind == "yaml")
    (programs.folder / "admin.token").write_text("a-token-that-nobody-guesses")
    _, engine = programs.engine("forgotten", "sim", "--profile", "instant")
    replaced = re.sub(r"replicas: .*", f'replicas: ["{engine}"]', config).replace("${KEY_HASH}", digest("newcomer"))
    for port in ("8080", "9090"):
        replaced = replaced.replace(port, str(free_port()))
    _, url, _ = programs.gateway(replaced)
    status, _, body = ask(f"{url}/v1/chat/completions", "newcomer", chat("llama-3.1-8b"))
    tally.check("a model that no engine has is named in the 404", "" if status == 404 and b"`llama-3.1-8b`" in body else (status, body))


def output(text, folder, environment):
    """What the script says. It starts programs that do not end: its whole group is ended afterwards."""
    process = subprocess.Popen(["bash", "-c", text], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True)
    lines = []
    watch = signal.alarm  # The whole run has a bound of its own; this one names the part that is late.
    watch(SCRIPT_SECONDS_MAX)
    try:
        for line in process.stdout:
            lines.append(line)
            if line == f"{MARK} end\n":
                break
    finally:
        watch(0)
        ended(process.pid)
        process.wait()
    return "".join(lines)


def ended(session):
    """Ends every process of the session that the script was given."""
    for wanted in (signal.SIGTERM, signal.SIGKILL):
        for process in members(session):
            try:
                os.kill(process, wanted)
            except ProcessLookupError:
                pass
        deadline = 100
        while members(session) and deadline:
            deadline -= 1
            time.sleep(0.05)


def members(session):
    """The processes of a session, by what the system says of each."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(name))
    return found


def judge(found, parts, tally):
    """What came of each step, by what its block is for."""
    said = {}
    for block, part in zip(found, parts):
        for name, mark in (("checked", "tidegate check"), ("answered", "curl -i"), ("crowd", "xargs"), ("drill", "tidegate drill")):
            if block.kind == "sh" and mark in block.text:
                said[name] = part

    def has(what, name, *patterns):
        text = said.get(name, "")
        missing = [pattern for pattern in patterns if not re.search(pattern, text)]
        tally.check(what, f"{missing} not in: {text[-1200:]}" if missing else "")

    has("the README's config has no fault", "checked", r"tidegate\.yaml: ok")
    has("the first 200, served as priority", "answered", r"HTTP/1\.1 200", r'"service_tier":"priority"', r"x-ratelimit-limit-tokens-generated", r"data: \[DONE\]")
    has("the first 503, and why", "crowd", r"\b503\b", r'"would_have_helped": ?"', r'"reason": ?"(?:shed|queue)-')
    has("a drill on the own config", "drill", r"\bpassed\b")
