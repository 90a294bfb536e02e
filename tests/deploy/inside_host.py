"""Inside the systemd of booted.py: the unit of deploy/systemd on a host, installed as its header says, word for word."""

import pathlib
import re

from programs import Program, ask, chat, read
from service import Crowd, Stream, eventually, loopback_up, main_pid, ran, shown, systemctl
from tally import Tally

HERE = pathlib.Path("/trial/source")
PROGRAM = HERE / "target/dist/tidegate"
UNIT = HERE / "deploy/systemd/tidegate.service"
URL, ADMIN = "http://127.0.0.1:8080", "http://127.0.0.1:9090"
# What systemd gives to units of DynamicUser=yes.
DYNAMIC = range(61184, 65520)
KEY = "sk-of-the-trial"


def main():
    loopback_up()
    tally = Tally()
    engine = Program([PROGRAM, "engine", "--any-model", "--address", "127.0.0.1:8000"], HERE / "engine.log")
    engine.said(r"\bon (http://[0-9.:]+)")
    installed(tally)
    tally.check("case O07: systemd starts the unit as its header installs it", systemctl("enable", "--now"))
    pid = main_pid()
    status = pathlib.Path(f"/proc/{pid}/status").read_text() if pid else "Uid:\t0"
    uid = int(re.search(r"^Uid:\t(\d+)", status, re.MULTILINE).group(1))
    tally.check("case O07: as a user that exists only while it runs", "" if uid in DYNAMIC else uid)
    answer, _, body = ask(f"{URL}/v1/chat/completions", KEY, chat("llama-3.1-8b", max_tokens=4))
    tally.check("and it answers", "" if answer == 200 else f"{answer} {body}")
    tally.check("case O07: with the token of LoadCredential", ran(PROGRAM, "accounts", "create", "acme", "--token-file", "/etc/tidegate/admin.token"))
    reloads(tally, pid)
    tally.check("it is stopped", systemctl("disable", "--now"))
    tally.check("and has ended by itself", "" if shown("Result") == "success" else shown("Result"))
    tally.end()


def installed(tally):
    """The header's commands, in a folder that has the files which they name."""
    header = re.match(r"(?:#.*\n)+", UNIT.read_text()).group()
    where = re.match(r"# (/\S+)\n", header).group(1)
    commands = [line.split("  #")[0].strip() for line in re.findall(r"^#   (\S.*)$", header, re.MULTILINE)]
    installs = [command for command in commands if command.startswith("install ")]
    tally.check("its header installs the program, the config and the token", "" if len(installs) == 4 else installs)
    for command in (f"install -m 644 deploy/systemd/tidegate.service {where}", *installs):
        tally.check(command, ran(*command.split(), cwd=HERE))


def reloads(tally, before):
    crowd, stream = Crowd(URL, KEY), Stream(URL, KEY, 150)
    eventually(stream.runs)
    tally.check("case O05: systemctl reload", systemctl("reload"))
    after = main_pid()
    tally.check("is another process", "" if after not in (0, before) and shown("ActiveState") == "active" else f"{before}, then {after}")
    tally.check("the stream ends as it would have", stream.cut())
    answered, bad = crowd.stop()
    tally.check(f"all {answered} requests on new connections are answered", bad[:5] or ("" if answered >= 20 else "too few"))
    tally.check("it is ready", "" if read(f"{ADMIN}/readyz") == "ok\n" else "it is not")


if __name__ == "__main__":
    main()
