"""Inside the systemd of booted.py: the package from its installation through its upgrades to its purge.

Beside it lie tidegate.deb, and newer.deb and broken.deb, which package.py has made of it: another version, and one whose
program ends at once.
"""

import grp
import json
import pathlib
import pwd
import re
import shutil
import stat
import subprocess

from programs import Program, ask, chat, read, wait_for
from service import Crowd, Stream, eventually, journal, loopback_up, main_pid, program_of, ran, said, shown, systemctl
from tally import Tally

HERE = pathlib.Path("/trial")
CONFIG = pathlib.Path("/etc/tidegate/tidegate.yaml")
TOKEN = pathlib.Path("/etc/tidegate/admin-token")
STATE = pathlib.Path("/var/lib/tidegate")
LOGS = pathlib.Path("/var/log/tidegate")
CREDENTIAL = pathlib.Path("/run/credentials/tidegate.service/admin-token")
URL, ADMIN = "http://127.0.0.1:8080", "http://127.0.0.1:9090"
# Longer than a package takes to be installed, on a slow machine too.
LONG_TOKENS = 1500
STREAM_TOKENS = 250
PRIVILEGES = "CapEff:\t0000000000000000"


def main():
    loopback_up()
    # The index of all the machine's manuals takes a minute, and is not what is tried.
    pathlib.Path("/var/lib/man-db/auto-update").unlink(missing_ok=True)
    tally = Tally()
    tally.check("it is installed", ran("dpkg", "--install", HERE / "tidegate.deb"))
    rights(tally)
    starts(tally)
    key = serves(tally)
    if key:
        is_upgraded(tally, key)
        refuses(tally, key)
        rotates(tally, key)
        a_new_token(tally)
        is_removed(tally, key)
    is_purged(tally)
    tally.end()


def rights(tally):
    def is_as(path, owner, group, mode):
        found = path.stat()
        seen = (pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name, stat.S_IMODE(found.st_mode))
        return "" if seen == (owner, group, mode) else f"{seen[0]}:{seen[1]} {seen[2]:o}"

    tally.check("the config is root's, and its service's to read", is_as(CONFIG, "root", "tidegate", 0o640))
    tally.check("its folder, too", is_as(CONFIG.parent, "root", "tidegate", 0o750))
    tally.check("the token is root's alone", is_as(TOKEN, "root", "root", 0o600))
    tally.check("and no guess", "" if len(TOKEN.read_text().strip()) >= 43 else "it is short")
    tally.check("root can check the config", ran("/usr/bin/tidegate", "check", "--config", CONFIG))
    refused = as_user("nobody", "/usr/bin/tidegate", "check", "--config", str(CONFIG))
    tally.check("nobody else reads it", "" if "ermission denied" in refused else f"nobody can: {refused}")
    tally.check("its manual is found", ran("man", "--pager=cat", "tidegate") if shutil.which("man") else "")
    tally.check("it waits for whoever starts it", "" if (shown("ActiveState"), shown("UnitFileState")) == ("inactive", "disabled") else shown("ActiveState"))


def as_user(user, *command):
    setpriv = ["setpriv", f"--reuid={user}", "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups", "--no-new-privs"]
    return ran(*setpriv, "--bounding-set=-all", *command)


def starts(tally):
    """Case O07 in full: systemd itself makes the user's folders and hands the token over."""
    tally.check("case O07: systemd starts it, with the sample config as it is", systemctl("enable", "--now"))
    pid = main_pid()
    status = pathlib.Path(f"/proc/{pid}/status").read_text() if pid else ""
    user = pwd.getpwnam("tidegate")
    tally.check("as the user tidegate", "" if re.search(rf"^Uid:\t{user.pw_uid}\t{user.pw_uid}\t", status, re.MULTILINE) else status[:300])
    tally.check("without a capability", "" if PRIVILEGES in status else status[-800:])
    tally.check("case O07: the token is handed over", "" if CREDENTIAL.exists() and CREDENTIAL.read_text() == TOKEN.read_text() else "it is not there")
    denied = as_user("nobody", "cat", str(CREDENTIAL))
    tally.check("and to nobody else", "" if "ermission denied" in denied else f"nobody reads it: {denied}")
    folders = {path: path.stat().st_uid == user.pw_uid and stat.S_IMODE(path.stat().st_mode) for path in (STATE, LOGS) if path.is_dir()}
    tally.check("state and logs are its own folders", "" if folders == {STATE: 0o700, LOGS: 0o750} else folders)
    tally.check("it is started with the machine", "" if shown("UnitFileState") == "enabled" else shown("UnitFileState"))


def serves(tally):
    """What the sample config says one can do; the key that it gives."""
    # A copy: the engines of real machines are none of the package's.
    shutil.copy("/usr/bin/tidegate", HERE / "engine")
    engine = Program([HERE / "engine", "engine", "--any-model", "--address", "127.0.0.1:8000"], HERE / "engine.log")
    engine.said(r"\bon (http://[0-9.:]+)")
    wait_for(f"{ADMIN}/readyz", engine)
    made = subprocess.run(
        ["/usr/bin/tidegate", "accounts", "create", "acme", "--tiers", "priority,regular", "--token-file", str(TOKEN), "-o", "json"],
        capture_output=True, text=True, check=False,
    )
    found = re.search(r'"(tg-[^"]+)"', made.stdout)
    tally.check("case O07: its token makes an account", made.stderr if made.returncode else ("" if found else made.stdout))
    wrong = HERE / "wrong"
    wrong.write_text("another-token-than-that\n")
    refused = ran("/usr/bin/tidegate", "accounts", "create", "other", "--token-file", str(wrong))
    tally.check("another token does not", "" if "token" in refused else f"it is taken: {refused}")
    key = found.group(1) if found else ""
    status, _, body = ask(f"{URL}/v1/chat/completions", key, chat("llama-3.1-8b", max_tokens=4))
    tally.check("a request with the new key is answered", "" if status == 200 else f"{status} {body}")
    return key if status == 200 else ""


def is_upgraded(tally, key):
    """With traffic and running streams: nobody is refused, nothing is cut, and the new program runs."""
    CONFIG.write_text(CONFIG.read_text() + "# Ours.\n")
    before = main_pid()
    crowd, streams = Crowd(URL, key), [Stream(URL, key, LONG_TOKENS) for _ in range(3)]
    tally.check("streams run", "" if eventually(lambda: all(stream.runs() for stream in streams)) else [stream.fault for stream in streams])
    tally.check("a new version is installed over it", ran("dpkg", "--install", HERE / "newer.deb"))
    ended = [stream.read[-60:] for stream in streams if not stream.runs()]
    after = main_pid()
    tally.check("the streams run on beside the new process", ended)
    tally.check("the service is another process", "" if after not in (0, before) and shown("ActiveState") == "active" else f"{before}, then {after}, {shown('ActiveState')}")
    tally.check("which runs the new program", "" if program_of(after) == "/usr/bin/tidegate" else program_of(after))
    tally.check("the streams end as they would have", [cut for cut in (stream.cut() for stream in streams) if cut])
    gone = eventually(lambda: not pathlib.Path(f"/proc/{before}").exists())
    tally.check("and the old process with them", "" if gone else "it is still there")
    answered, bad = crowd.stop()
    tally.check(f"meanwhile all {answered} requests on new connections are answered", bad[:5] or ("" if answered >= 50 else "too few"))
    tally.check("systemd has restarted nothing", "" if shown("NRestarts") == "0" else shown("NRestarts"))
    tally.check("the operator's config stays", "" if CONFIG.read_text().endswith("# Ours.\n") else "it was replaced")
    found = CONFIG.stat()
    tally.check("with its group and mode", "" if (grp.getgrgid(found.st_gid).gr_name, stat.S_IMODE(found.st_mode)) == ("tidegate", 0o640) else "they changed")
    listed = ran("/usr/bin/tidegate", "accounts", "show", "acme", "--token-file", str(TOKEN))
    tally.check("case O07: the new process knows the token, and the accounts", listed)


def refuses(tally, key):
    """A new version that does not come up, for whatever reason, changes nothing for those who are served."""
    good = CONFIG.read_text()
    for why, package, config in (("refuses the config", "newer.deb", good + "acounts: []\n"), ("cannot run", "broken.deb", good)):
        CONFIG.write_text(config)
        before, crowd, stream = main_pid(), Crowd(URL, key), Stream(URL, key, STREAM_TOKENS)
        eventually(stream.runs)
        words = said("dpkg", "--install", str(HERE / package))
        told = "the old one goes on" in words
        tally.check(f"a version that {why}: it is said where it is installed", "" if told else words)
        same = main_pid() == before and shown("ActiveState") == "active"
        tally.check("and the old process goes on", "" if same else f"{before}, then {main_pid()}, {shown('ActiveState')}")
        answered, bad = crowd.stop()
        cut = stream.cut()
        tally.check(f"all {answered} requests and the stream are answered", cut or bad[:5] or ("" if answered >= 20 else "too few"))
        tally.check("the package is installed nonetheless", "" if said("dpkg-query", "--show", "--showformat=${Status}", "tidegate") == "install ok installed" else words)
    tally.check("mended, the next version is installed", ran("dpkg", "--install", HERE / "newer.deb"))
    after = main_pid()
    tally.check("and takes over", "" if program_of(after) == "/usr/bin/tidegate" and after != before else program_of(after))


def rotates(tally, key):
    """The access log goes to a file, which logrotate moves away."""
    log = LOGS / "access.log"
    CONFIG.write_text(CONFIG.read_text() + f"log: {{ access: {log} }}\n")
    tally.check("a reload hands over to a new config", systemctl("reload"))
    ask(f"{URL}/v1/chat/completions", key, chat("llama-3.1-8b", max_tokens=4))
    written = eventually(lambda: log.exists() and log.read_text().count("\n") == 1)
    tally.check("whose access log is a file", "" if written else journal())
    if not shutil.which("logrotate"):
        return
    tally.check("logrotate rotates it", ran("logrotate", "--force", "/etc/logrotate.d/tidegate"))
    tally.check("and the gateway goes on in a new one", "" if eventually(lambda: log.exists() and not log.read_text()) else "it is not there")
    ask(f"{URL}/v1/chat/completions", key, chat("llama-3.1-8b", max_tokens=4))
    tally.check("without losing a line", "" if eventually(lambda: log.read_text().count("\n") == 1) else log.read_text())


def a_new_token(tally):
    """As the config's comment says: systemd hands a changed token over at a restart, and until then the old one counts."""
    old = HERE / "old-token"
    shutil.copy(TOKEN, old)
    TOKEN.write_text("another-token-that-is-as-long-as-the-first-one\n")
    before = main_pid()
    tally.check("case O07: after a change of the token a reload hands over", systemctl("reload") or ("" if main_pid() != before else "it did not"))
    tally.check("and the old token counts", ran("/usr/bin/tidegate", "accounts", "show", "acme", "--token-file", old))
    tally.check("until a restart", systemctl("restart"))
    tally.check("case O07: then the new one does", ran("/usr/bin/tidegate", "accounts", "show", "acme", "--token-file", TOKEN))
    refused = ran("/usr/bin/tidegate", "accounts", "create", "other", "--token-file", old)
    tally.check("and the old one no more", "" if refused else "it does")


def is_removed(tally, key):
    stream = Stream(URL, key, STREAM_TOKENS)
    eventually(stream.runs)
    tally.check("it is removed", ran("dpkg", "--remove", "tidegate"))
    tally.check("which ends the service", "" if shown("ActiveState") != "active" and not main_pid() else shown("ActiveState"))
    tally.check("after the answers that ran", stream.cut())
    tally.check("and keeps config and state", "" if CONFIG.exists() and any(STATE.iterdir()) else "they are gone")


def is_purged(tally):
    tally.check("it is purged", ran("dpkg", "--purge", "tidegate"))
    places = (CONFIG.parent, STATE, LOGS, "/usr/bin/tidegate", "/etc/logrotate.d/tidegate", "/etc/systemd/system/multi-user.target.wants/tidegate.service")
    tally.check("and nothing is left", [str(path) for path in map(pathlib.Path, places) if path.exists() or path.is_symlink()])


if __name__ == "__main__":
    main()
