"""The program of deploy/package/static.sh, in a root that has nothing but it and the README's config."""

import os
import pathlib
import re
import shutil
import subprocess

from counted import counted
from programs import digest

INSIDE_SECONDS_MAX = 90
# Names as a machine's own file and as DNS tell them; the DNS is inside_static.py.
REPLICAS = ("http://localhost:8001", "http://engine.test:8002")


def check(given, said, tally):
    program = pathlib.Path(given.static).resolve()
    headers = subprocess.run(["readelf", "--program-headers", "--dynamic", program], capture_output=True, text=True, check=True).stdout
    wanted = re.findall(r"INTERP|\(NEEDED\).*", headers)
    tally.check(f"static: {program.stat().st_size / 1e6:.1f} MB, and no library is asked for", wanted)
    if os.geteuid() != 0:
        tally.check("static: it runs in a chroot", "only root may change its root: run this as root")
        return
    folder = given.logs / "static"
    root = folder / "root"
    (root / "etc").mkdir(parents=True)
    shutil.copy(program, root / "tidegate")
    laid_out(given, root, tally)
    files = [given.house / "tests" / name for name in ("deploy/inside_static.py", "deploy/service.py", "programs/programs.py", "programs/tally.py")]
    for file in files:
        shutil.copy(file, folder)
    # A hand-over starts the program that /proc names, with an input of nothing; linked statically, randomness comes from a device.
    inside = 'mkdir "$2/proc" "$2/dev" && mount -t proc proc "$2/proc" && mknod -m 666 "$2/dev/null" c 1 3 && mknod -m 666 "$2/dev/random" c 1 8 && mknod -m 666 "$2/dev/urandom" c 1 9 && exec python3 "$1" "$2"'
    ran = subprocess.run(
        ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", inside, "sh", folder / "inside_static.py", root],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=INSIDE_SECONDS_MAX, check=False,
    )
    (folder / "said.log").write_text(ran.stdout)
    counted(ran.stdout, "inside_static.py", tally)


def laid_out(given, root, tally):
    readme = (given.house / "README.md").read_text()
    config, day = (re.search(rf"```yaml\n({first}.*?)```", readme, re.DOTALL).group(1) for first in ("listen:", "drill:"))
    addresses = '"http://127.0.0.1:8001", "http://127.0.0.1:8002"'
    named = ", ".join(f'"{replica}"' for replica in REPLICAS)
    tally.check("static: the README's config is as it is changed here", "" if config.count(addresses) == 1 else config)
    (root / "tidegate.yaml").write_text(config.replace(addresses, named).replace("${KEY_HASH}", digest("sk-of-the-trial")))
    (root / "day.yaml").write_text(day)
    (root / "admin.token").write_text("a-token-that-nobody-guesses\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions attempts:1 timeout:2\n")
    # It does not start without the machine's list of authorities: the connector of the library in use reads it at once.
    authorities = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
    (root / "etc/ssl/certs").mkdir(parents=True)
    shutil.copy(authorities, root / str(authorities).removeprefix("/"))
    # As a machine with systemd has it: the sources but files and dns are modules, which are not here.
    (root / "etc/nsswitch.conf").write_text("hosts: files mymachines resolve [!UNAVAIL=return] dns\n")
