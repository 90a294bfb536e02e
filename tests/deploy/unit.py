"""The systemd unit: its words, how exposed it leaves the program, and whether the program keeps within it."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

from programs import Programs, ask, chat, digest, free_port

# systemd's own scale: 0 is sealed, 10 is open; units without any of it are at 9.6.
EXPOSURE_MAX = 1.5
NOTIFY_SECONDS_MAX = 15
# One of those that systemd gives to units of DynamicUser=yes: 61184 to 65519.
DYNAMIC_ID = 61200


def check(given, said, tally):
    folder = given.logs / "unit"
    folder.mkdir()
    # The same unit, with the program where it is here.
    text = (given.house / "deploy/systemd/tidegate.service").read_text()
    unit = folder / "tidegate.service"
    unit.write_text(text.replace("/usr/local/bin/tidegate", str(given.tidegate)))
    tally.check("systemd-analyze verify has nothing to say", said("systemd-analyze", "verify", "--man=no", unit))
    security = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={int(EXPOSURE_MAX * 10)}", unit]
    analysed = subprocess.run([str(part) for part in security], capture_output=True, text=True, check=False)
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", analysed.stdout)
    what = f"its exposure is {exposure.group(1) if exposure else '?'}, at most {EXPOSURE_MAX}"
    tally.check(what, (analysed.stdout + analysed.stderr)[-600:] if analysed.returncode else "")
    reload = re.findall(r"^ExecReload=(.*)$", text, re.M)
    hands_over = len(reload) == 1 and " upgrade " in f"{reload[0]} "
    tally.check("case O05: its reload hands over to a new process", "" if hands_over else f"ExecReload: {reload}")
    if os.geteuid() == 0:
        with tempfile.TemporaryDirectory() as place:
            readable(given, said, text, pathlib.Path(place), tally)
    else:
        tally.check("case O07: the unit's user reads the config", "only root may try it as another user: run this as root")
    with Programs(given.tidegate, folder) as programs:
        keeps_within(programs, text, tally)


def readable(given, said, text, place, tally):
    """Case O07: the unit's user, with the ids and rights that systemd gives, reads what the unit's header installs."""
    place.chmod(0o755)
    # Folders above the program may be closed to others here.
    program = place / "tidegate"
    shutil.copy(given.tidegate, program)
    credentials = place / "credentials"
    credentials.mkdir(mode=0o500)
    (credentials / "admin-token").write_text("a-token\n")
    (credentials / "admin-token").chmod(0o400)
    for path in (credentials, credentials / "admin-token"):
        os.chown(path, DYNAMIC_ID, DYNAMIC_ID)
    example = (given.house / "deploy/examples/smallest.yaml").read_text()
    sample = place / "sample.yaml"
    address = 'admin: { address: "127.0.0.1:9090" }'
    tally.check("the example is as it is changed here", "" if address in example else example)
    sample.write_text(example.replace(address, 'admin: { address: "127.0.0.1:9090", token_file: "${CREDENTIALS_DIRECTORY}/admin-token" }'))
    mode = re.search(r"install -D (-m \d+) tidegate.yaml", text).group(1).split()
    there = place / "etc/tidegate/tidegate.yaml"
    tally.check("its header's install does", said("install", "-D", *mode, sample, there))
    ids = [f"--reuid={DYNAMIC_ID}", f"--regid={DYNAMIC_ID}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    given_to_unit = ["env", f"CREDENTIALS_DIRECTORY={credentials}"]
    tally.check("case O07: with the ids of DynamicUser the config is read", said("setpriv", *ids, *given_to_unit, program, "check", "--config", there))
    there.chmod(0o640)
    refused = said("setpriv", *ids, *given_to_unit, program, "check", "--config", there)
    tally.check("which would have found one that is not", "" if "ermission denied" in refused else f"it is read: {refused}")


def keeps_within(programs, text, tally):
    """Says when it is ready and when it goes, and asks the kernel for nothing that the unit forbids."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(programs.folder / "notify"))
    manager.settimeout(NOTIFY_SECONDS_MAX)
    _, engine = programs.engine("engine", "tiny", "--profile", "instant")
    port = free_port()
    config = programs.folder / "tidegate.yaml"
    config.write_text(f"""
listen: {{ address: "0.0.0.0:{port}", shutdown: {{ lame_duck_ms: 100 }} }}
admin: {{ address: "127.0.0.1:{free_port()}" }}
deployments: [{{ name: tiny, engine: vllm, replicas: ["{engine}"] }}]
models: [{{ name: tiny, deployments: [tiny] }}]
accounts: [{{ id: acme, keys: ["{digest('key')}"] }}]
""")
    state = programs.folder / "state"
    state.mkdir()
    calls = programs.folder / "calls"
    environment = ["env", f"NOTIFY_SOCKET={programs.folder / 'notify'}", f"STATE_DIRECTORY={state}"]
    command = ["strace", "-f", "-qq", "-o", calls, "-e", "signal=none", *environment, programs.tidegate]
    gateway = programs.start("gateway", *command, "serve", "--config", config)
    try:
        traced_run(manager, gateway, calls, port, text, tally)
    finally:
        manager.close()
        # strace lets go of what it watches when it is stopped.
        for pid in re.findall(r"^(\d+) ", calls.read_text(), re.MULTILINE)[:1]:
            subprocess.run(["kill", "-KILL", pid], capture_output=True, check=False)


def traced_run(manager, gateway, calls, port, text, tally):
    ready = manager.recv(1000).decode()
    tally.check("it says READY=1", "" if "READY=1" in ready.splitlines() else ready)
    status, _, body = ask(f"http://127.0.0.1:{port}/v1/chat/completions", "key", chat("tiny", max_tokens=4))
    tally.check("and a request at once is answered", "" if status == 200 else f"{status} {body}")
    # strace would keep the signal for itself.
    traced = re.search(r"^(\d+) ", calls.read_text()).group(1)
    subprocess.run(["kill", "-TERM", traced], check=True)
    stopping = manager.recv(1000).decode()
    tally.check("it says STOPPING=1 when told to end", "" if "STOPPING=1" in stopping.splitlines() else stopping)
    ended = gateway.process.wait(NOTIFY_SECONDS_MAX)
    tally.check("and ends by itself", "" if ended == 0 else f"exit {ended}")
    forbidden = made(calls.read_text()) - allowed(text)
    tally.check("every system call that it made is in the unit's filter", sorted(forbidden))
    tally.check("which would have found one that is not", "" if "reboot" not in allowed(text) else "the filter allows reboot")


def made(trace):
    """The system calls of an strace, but for those of `env` and of starting."""
    return set(re.findall(r"^\d+ +(\w+)\(", trace, re.MULTILINE)) - {"execve"}


def allowed(text):
    """The system calls that the unit's filter leaves."""
    calls = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE):
        words = line.removeprefix("~").split()
        of_line = set().union(*(calls_of(word) for word in words))
        calls = calls - of_line if line.startswith("~") else calls | of_line
    return calls


def calls_of(word):
    """What a set such as @system-service holds, sets within it too."""
    if not word.startswith("@"):
        return {word}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager", word], capture_output=True, text=True, check=True)
    inner = [line.strip() for line in listed.stdout.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return set().union(*(calls_of(name) for name in inner)) if inner else set()
