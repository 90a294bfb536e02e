"""The Debian package: built, looked at, and installed, run, upgraded and purged on an overlay of this machine's own root.

The overlay, its mounts and a network of its own are gone with this process, which run.sh gives a mount namespace.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

# With gzip, which is faster to try than the xz of a package that is shipped, and a fifth larger.
SIZE_MAX_MB = 15
EXPOSURE_MAX = 1.5
INSIDE_SECONDS_MAX = 90
# Tags of lintian that say what we know: no bug of Debian's is closed by a first version, and the addresses are nobody's.
LINTIAN_KNOWN = "initial-upload-closes-no-bugs,bogus-mail-host-in-debian-changelog,bogus-mail-host,mail-address-loops-or-bounces"


def check(given, said, tally):
    if shutil.which("cargo-deb") is None:
        tally.check("the package is built", "cargo-deb is missing: cargo install --locked cargo-deb")
        return
    folder = given.logs / "package"
    folder.mkdir()
    tally.check("build.sh makes the package", said(given.house / "deploy/package/build.sh", given.tidegate, folder, env={**os.environ, "COMPRESS": "gz"}))
    packages = list(folder.glob("*.deb"))
    if not packages:
        return
    package = packages[0]
    size = package.stat().st_size / 1e6
    tally.check(f"which has {size:.1f} MB, at most {SIZE_MAX_MB}", "" if size <= SIZE_MAX_MB else f"{size:.1f} MB")
    if shutil.which("lintian"):
        lintian = ["lintian", "--fail-on", "error,warning", "--suppress-tags", LINTIAN_KNOWN, "--no-tag-display-limit", package]
        tally.check("lintian has neither errors nor warnings", said(*lintian))
    laid_out(package, tally)
    unit(given, said, tally, folder)
    if os.geteuid() != 0:
        tally.check("it is installed", "only root installs packages: run this as root")
        return
    installed(given, package, folder, tally)


def laid_out(package, tally):
    listed = subprocess.run(["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True).stdout
    there = {line.split()[5].removeprefix("."): line.split()[0] for line in listed.splitlines()}
    wanted = {
        "/usr/bin/tidegate": "-rwxr-xr-x", "/usr/lib/systemd/system/tidegate.service": "-rw-r--r--",
        "/etc/tidegate/tidegate.yaml": "-rw-r-----", "/etc/logrotate.d/tidegate": "-rw-r--r--",
        "/usr/share/man/man1/tidegate.1.gz": "-rw-r--r--", "/usr/share/doc/tidegate/copyright": "-rw-r--r--",
        "/usr/share/bash-completion/completions/tidegate": "-rw-r--r--", "/usr/share/zsh/vendor-completions/_tidegate": "-rw-r--r--",
    }
    tally.check("everything has its place and mode", {path: there.get(path) for path, mode in wanted.items() if there.get(path) != mode})
    fields = subprocess.run(["dpkg-deb", "--field", package], capture_output=True, text=True, check=True).stdout
    tally.check("it depends on the libraries that it needs", "" if re.search(r"^Depends:.*libc6 \(>= ", fields, re.MULTILINE) else fields)


def unit(given, said, tally, folder):
    """The unit as it is in the package, with the program where it is here."""
    text = (given.house / "target/package/tidegate.service").read_text()
    wrong = [word for word in ("/usr/local", "DynamicUser") if word in text]
    tally.check("its unit starts /usr/bin/tidegate as the package's own user", wrong or ("" if "User=tidegate" in text else text))
    file = folder / "tidegate.service"
    file.write_text(text.replace("/usr/bin/tidegate", str(given.tidegate)))
    tally.check("systemd-analyze verify has nothing to say about it", said("systemd-analyze", "verify", "--man=no", file))
    security = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={int(EXPOSURE_MAX * 10)}", file]
    tally.check(f"its exposure is at most {EXPOSURE_MAX}", said(*security))
    rotation = folder / "tidegate.logrotate"
    shutil.copy(given.house / "target/package/tidegate.logrotate", rotation)
    rotation.chmod(0o644)
    tally.check("logrotate reads its file", said("logrotate", "--debug", "--state", folder / "logrotate.state", rotation))


def installed(given, package, folder, tally):
    """Everything below happens in a chroot: what it changes lies in a folder over this machine's files."""
    root, upper, work = (folder / name for name in ("root", "upper", "work"))
    for path in (root, upper, work):
        path.mkdir()
    mounts = [
        ["mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", root],
        ["mount", "--rbind", "/dev", root / "dev"],
        ["mount", "-t", "proc", "proc", root / "proc"],
        ["mount", "-t", "tmpfs", "tmpfs", root / "run"],
        ["mount", "-t", "tmpfs", "tmpfs", root / "tmp"],
    ]
    try:
        for mount in mounts:
            subprocess.run([str(part) for part in mount], check=True)
        shutil.copy(package, root / "tmp/tidegate.deb")
        for file in ("inside.py", "../programs/programs.py", "../programs/tally.py"):
            shutil.copy(given.house / "tests/deploy" / file, root / "tmp")
        # Services of the machine's own root are not this chroot's to start.
        (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (root / "usr/sbin/policy-rc.d").chmod(0o755)
        command = ["unshare", "--net", "chroot", str(root), sys.executable if is_system(sys.executable) else "python3", "/tmp/inside.py"]
        ran = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=INSIDE_SECONDS_MAX, check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        )
        (folder / "inside.log").write_text(ran.stdout)
        for line in ran.stdout.splitlines():
            if line.startswith(("ok  ", "FAIL")):
                what, _, wrong = line[5:].partition(": ") if line.startswith("FAIL") else (line[5:], "", "")
                tally.check(what, wrong or ("it failed" if line.startswith("FAIL") else ""))
        tally.check("the package was tried to the end", "" if ran.returncode in (0, 1) and "passed, " in ran.stdout else ran.stdout[-1500:])
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(root)], capture_output=True, check=False)


def is_system(python):
    return pathlib.Path(python).resolve().parts[:2] == ("/", "usr")
