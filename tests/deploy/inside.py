"""Inside the chroot of package.py, as root, in a network of its own: the package from its installation to its purge."""

import fcntl
import grp
import os
import pathlib
import pwd
import shutil
import socket
import stat
import struct
import subprocess

from programs import Program, ask, chat, read, wait_for
from tally import Tally

PACKAGE = "/tmp/tidegate.deb"
CONFIG = pathlib.Path("/etc/tidegate/tidegate.yaml")
TOKEN = pathlib.Path("/etc/tidegate/admin-token")
STATE = pathlib.Path("/var/lib/tidegate")
LOGS = pathlib.Path("/var/log/tidegate")
CREDENTIALS = pathlib.Path("/run/credentials/tidegate.service")
CALLS = pathlib.Path("/tmp/systemctl.calls")
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def main():
    loopback_up()
    tally = Tally()
    tally.check("it is installed", ran("dpkg", "--install", PACKAGE))
    rights(tally)
    with_systemd_faked()
    runs_and_is_upgraded(tally)
    purged(tally)
    tally.end()


def loopback_up():
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", IFF_UP, b""))


def ran(*command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    return (done.stdout.strip() or f"exit {done.returncode}").replace("\n", " | ") if done.returncode else ""


def rights(tally):
    def is_as(path, owner, group, mode):
        found = path.stat()
        seen = (pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name, stat.S_IMODE(found.st_mode))
        return "" if seen == (owner, group, mode) else f"{seen[0]}:{seen[1]} {seen[2]:o}"

    tally.check("the config is root's, and its service's to read", is_as(CONFIG, "root", "tidegate", 0o640))
    tally.check("its folder, too", is_as(CONFIG.parent, "root", "tidegate", 0o750))
    tally.check("the token is root's alone", is_as(TOKEN, "root", "root", 0o600))
    tally.check("and no guess", "" if len(TOKEN.read_text().strip()) >= 43 else "it is short")
    # What systemd does before it starts the unit: StateDirectory, LogsDirectory, LoadCredential.
    user = pwd.getpwnam("tidegate")
    for folder, mode in ((STATE, 0o700), (LOGS, 0o750), (CREDENTIALS, 0o500)):
        folder.mkdir(parents=True)
        if folder == CREDENTIALS:
            shutil.copy(TOKEN, folder / "admin-token")
            os.chown(folder / "admin-token", user.pw_uid, user.pw_gid)
            (folder / "admin-token").chmod(0o400)
        os.chown(folder, user.pw_uid, user.pw_gid)
        folder.chmod(mode)
    tally.check("case O07: with the ids that systemd gives, the config is in order", as_user("tidegate", "check"))
    tally.check("root can check it too", ran("/usr/bin/tidegate", "check", "--config", str(CONFIG)))
    tally.check("nobody else reads it", "" if "ermission denied" in as_user("nobody", "check") else "nobody can read it")
    man = ran("man", "--pager=cat", "tidegate") if shutil.which("man") else ""
    tally.check("its manual is found", man)


def command_of(user, command):
    setpriv = ["setpriv", f"--reuid={user}", "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups", "--no-new-privs"]
    environment = ["env", f"CREDENTIALS_DIRECTORY={CREDENTIALS}", f"STATE_DIRECTORY={STATE}"]
    return [*setpriv, "--bounding-set=-all", *environment, "/usr/bin/tidegate", command, "--config", str(CONFIG)]


def as_user(user, command):
    return ran(*command_of(user, command))


def with_systemd_faked():
    """A systemd that says that the unit runs and writes down what it is asked for."""
    pathlib.Path("/run/systemd/system").mkdir(parents=True)
    fake = pathlib.Path("/usr/local/sbin/systemctl")
    fake.parent.mkdir(parents=True, exist_ok=True)
    fake.write_text(f'#!/bin/sh\necho "$@" >>{CALLS}\n')
    fake.chmod(0o755)
    os.environ["PATH"] = f"/usr/local/sbin:{os.environ['PATH']}"


def runs_and_is_upgraded(tally):
    """The sample config, as it is, before a simulated engine; the gateway outlives the upgrade, which asks for a hand-over."""
    engine = Program(["/usr/bin/tidegate", "engine", "--any-model", "--address", "127.0.0.1:8000", "--profile", "instant"], "/tmp/engine.log")
    engine.said(r"\bon (http://[0-9.:]+)")
    gateway = Program(command_of("tidegate", "serve"), "/tmp/gateway.log")
    admin = gateway.said(r"admin on (http://[0-9.:]+)")
    wait_for(f"{admin}/readyz", gateway)
    made = subprocess.run(
        ["/usr/bin/tidegate", "accounts", "create", "acme", "--token-file", str(TOKEN), "-o", "json"],
        capture_output=True, text=True, check=False,
    )
    key = next((word.strip('",') for word in made.stdout.split() if word.strip('",').startswith("tg-")), "")
    tally.check("the sample config serves, and accounts are made as it says", made.stderr if made.returncode else ("" if key else made.stdout))
    status, _, body = ask("http://127.0.0.1:8080/v1/chat/completions", key, chat("llama-3.1-8b", max_tokens=4))
    tally.check("a request with the new key is answered", "" if status == 200 else f"{status} {body}")

    CONFIG.write_text(CONFIG.read_text() + "# Ours.\n")
    CALLS.write_text("")
    tally.check("an upgrade installs over it", ran("dpkg", "--install", PACKAGE))
    asked = CALLS.read_text().splitlines()
    tally.check("it asks systemd for a reload, which is the hand-over", "" if "reload tidegate.service" in asked else asked)
    forbidden = [call for call in asked if any(word in call.split() for word in ("restart", "stop", "start", "try-restart"))]
    tally.check("and never for a restart", forbidden)
    tally.check("the gateway runs on", "" if gateway.process.poll() is None and read(f"{admin}/readyz") == "ok\n" else "it was ended")
    tally.check("the operator's config stays", "" if CONFIG.read_text().endswith("# Ours.\n") else "it was replaced")
    found = CONFIG.stat()
    tally.check("with its owner and mode", "" if (grp.getgrgid(found.st_gid).gr_name, stat.S_IMODE(found.st_mode)) == ("tidegate", 0o640) else "they changed")
    (LOGS / "access.log").write_text("a line\n")
    gateway.stop()
    engine.stop()


def purged(tally):
    tally.check("it is removed", ran("dpkg", "--remove", "tidegate"))
    tally.check("which keeps config and state", "" if CONFIG.exists() and any(STATE.iterdir()) else "they are gone")
    tally.check("it is purged", ran("dpkg", "--purge", "tidegate"))
    left = [str(path) for path in (CONFIG.parent, STATE, LOGS, pathlib.Path("/usr/bin/tidegate"), pathlib.Path("/etc/logrotate.d/tidegate")) if path.exists()]
    tally.check("and nothing is left", left)


if __name__ == "__main__":
    main()
