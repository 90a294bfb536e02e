"""Tries each file of deploy/ with the tool that will read it.

    python main.py --tidegate PROGRAM --house FOLDER --logs FOLDER
"""

import argparse
import pathlib
import shutil
import signal
import subprocess
import sys

import chart
import compose
import image
import package
import static
import unit
import updates
from programs import StartError
from tally import Tally

TOOL_SECONDS_MAX = 180


def said(*command, **more):
    """What a tool says if it is not content, else nothing."""
    ran = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=TOOL_SECONDS_MAX, check=False, **more,
    )
    return ran.stdout.strip() or f"exit {ran.returncode}" if ran.returncode else ""


# What the examples name and this machine has not.
NAMED = ("/run/secrets/engine-key", "/run/secrets/tidegate-admin-token", "/etc/tidegate/tls.crt", "/etc/tidegate/tls.key")


def examples(given, tally):
    """Each example is in order, with files of our own where it names those of another machine."""
    folder = given.logs / "examples"
    folder.mkdir()
    files = {name: folder / name.rsplit("/", 1)[1] for name in NAMED}
    for file in files.values():
        file.write_text("a-secret\n")
    made = ["-keyout", files["/etc/tidegate/tls.key"], "-out", files["/etc/tidegate/tls.crt"], "-subj", "/CN=localhost"]
    tally.check("openssl makes a certificate", said("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *made))
    for example in sorted((given.house / "deploy/examples").glob("*.yaml")):
        text = example.read_text()
        for name, file in files.items():
            text = text.replace(name, str(file))
        copy = folder / example.name
        copy.write_text(text)
        tally.check(f"examples/{example.name} is in order", said(given.tidegate, "check", "--config", copy))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidegate", required=True, type=pathlib.Path)
    parser.add_argument("--house", required=True, type=pathlib.Path)
    parser.add_argument("--logs", required=True, type=pathlib.Path, help="written anew on each run")
    parser.add_argument("--package", action="store_true", help="build the package as well, and install, run, upgrade and purge it")
    parser.add_argument("--static", type=pathlib.Path, help="what deploy/package/static.sh made: tried in a root without a library")
    given = parser.parse_args()
    given.tidegate = given.tidegate.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: out of time"))
    shutil.rmtree(given.logs, ignore_errors=True)
    given.logs.mkdir(parents=True)

    tally = Tally()
    examples(given, tally)
    for part in (image, compose, unit, chart, updates, *((package,) if given.package else ()), *((static,) if given.static else ())):
        try:
            part.check(given, said, tally)
        except StartError as fault:
            tally.check(f"{part.__name__}: the programs start", fault)
    tally.end()


if __name__ == "__main__":
    main()
