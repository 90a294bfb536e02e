"""Runs what the book and the README say, as it stands there.

    python main.py --tidegate PROGRAM --house FOLDER --kept FOLDER [--only PART]

`--kept` has the packages that the examples import; logs go below it.
"""

import argparse
import pathlib
import shutil
import signal
import sys
import time

import book
import clients
import envoy
import newcomer
import reference
import sdks
from programs import Programs, StartError
from tally import Tally

PARTS = {"newcomer": newcomer, "clients": clients, "sdks": sdks, "reference": reference, "envoy": envoy, "book": book}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidegate", required=True, type=pathlib.Path)
    parser.add_argument("--house", required=True, type=pathlib.Path)
    parser.add_argument("--kept", required=True, type=pathlib.Path)
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: out of time"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("stopped: one part took too long"))
    shutil.rmtree(given.kept / "logs", ignore_errors=True)

    tally = Tally()
    for name, part in PARTS.items():
        if given.only in (None, name):
            begun = time.monotonic()
            print(f"# {name}", flush=True)
            try:
                with Programs(given.tidegate, given.kept / "logs" / name) as programs:
                    part.run(given, programs, tally)
            except StartError as fault:
                tally.check("the programs start", fault)
            print(f"# {name}: {time.monotonic() - begun:.0f} s", flush=True)
    tally.end()


if __name__ == "__main__":
    main()
