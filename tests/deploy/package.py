"""The Debian package: built, looked at, and installed, run, upgraded, removed and purged under a systemd of its own."""

import os
import re
import shutil
import subprocess

import booted
from counted import counted
from programs import digest

# With gzip, which is faster to try than the xz of a package that is shipped, and a fifth larger.
SIZE_MAX_MB = 15
EXPOSURE_MAX = 1.5
INSIDE_SECONDS_MAX = 180
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
    lintian = ["lintian", "--fail-on", "error,warning", "--suppress-tags", LINTIAN_KNOWN, "--tag-display-limit", "0", package]
    tally.check("lintian has neither errors nor warnings", said(*lintian))
    laid_out(package, tally)
    unit(given, said, tally, folder)
    if os.geteuid() != 0:
        tally.check("it is installed", "only root installs packages: run this as root")
        return
    for name, change in (("newer", longer), ("broken", unable)):
        changed(package, folder / name, change)
    installed(given, package, folder, tally)
    on_a_host(given, folder, tally)


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


def changed(package, folder, change):
    """The package anew, of a later version, with another program."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    control = folder / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", rf"\g<0>+{folder.name}", control.read_text(), flags=re.MULTILINE))
    change(folder / "usr/bin/tidegate")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", folder, folder.with_suffix(".deb")], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder)


def longer(program):
    """The same program in another file."""
    with program.open("ab") as file:
        file.write(b"newer")


def unable(program):
    program.write_text("#!/bin/sh\necho this machine lacks something >&2\nexit 127\n")


def installed(given, package, folder, tally):
    shutil.copy(package, folder / "tidegate.deb")
    files = [folder / name for name in ("tidegate.deb", "newer.deb", "broken.deb")]
    tried(given, folder / "booted", "inside.py", files, tally)


# As the header of the unit wants it, with an account whose key the trial knows.
HOST_CONFIG = """
listen: {{ address: "127.0.0.1:8080" }}
admin: {{ address: "127.0.0.1:9090", token_file: "${{CREDENTIALS_DIRECTORY}}/admin-token" }}
deployments: [{{ name: llama, engine: vllm, replicas: ["http://127.0.0.1:8000"] }}]
models: [{{ name: llama-3.1-8b, deployments: [llama], size_class: small }}]
accounts: [{{ id: ours, keys: ["{key}"] }}]
"""


def on_a_host(given, folder, tally):
    """The unit without a package, in a folder like that of somebody who has built the program."""
    (folder / "source").mkdir()
    (folder / "source/tidegate.yaml").write_text(HOST_CONFIG.format(key=digest("sk-of-the-trial")))
    (folder / "source/admin.token").write_text("a-token-that-nobody-guesses\n")
    (folder / "source/target/dist").mkdir(parents=True)
    shutil.copy(given.tidegate, folder / "source/target/dist/tidegate")
    shutil.copytree(given.house / "deploy/systemd", folder / "source/deploy/systemd")
    tried(given, folder / "booted-host", "inside_host.py", [folder / "source"], tally)


def tried(given, folder, script, files, tally):
    """Runs a script under a systemd, and counts the checks that it made as ours."""
    tests = given.house / "tests"
    files = [*files, tests / "deploy" / script, tests / "deploy/service.py", tests / "programs/programs.py", tests / "programs/tally.py"]
    said = booted.run(folder, files, f"/usr/bin/python3 /trial/{script}", INSIDE_SECONDS_MAX)
    (folder / "said.log").write_text(said)
    counted(said, script, tally)
