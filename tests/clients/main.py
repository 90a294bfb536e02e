"""Runs all checks against each kind of engine at hand and counts them.

    python main.py --tidegate PROGRAM --logs FOLDER [--llama-server PROGRAM --llama-model FILE]

One line per check, then `N passed, N failed`; exit 0 if none failed.
"""

import argparse
import pathlib
import shutil
import signal
import sys

import openai

import answers
import breaks
import checks
import ending
import ramp
import refusals
import servers


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidegate", required=True, type=pathlib.Path)
    parser.add_argument("--logs", required=True, type=pathlib.Path, help="written anew on each run")
    parser.add_argument("--llama-server", type=pathlib.Path)
    parser.add_argument("--llama-model", type=pathlib.Path)
    return parser.parse_args()


def main():
    given = arguments()
    # Ends like an exception does, so that every `with` stops its programs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: out of time"))
    shutil.rmtree(given.logs, ignore_errors=True)
    given.logs.mkdir(parents=True)

    kinds = [servers.Simulated(given.tidegate)]
    if given.llama_server:
        kinds.append(servers.Llama(given.llama_server, given.llama_model))

    print(f"openai {openai.__version__}", flush=True)
    # `refusals` spends an account's minute first, so that it need not wait for a whole one later.
    to_run = refusals.FIRST + answers.ALL + breaks.ALL + refusals.ALL + ramp.ALL + ending.ALL
    tally = checks.Tally()
    for kind in kinds:
        try:
            with servers.House(given.tidegate, kind, given.logs / kind.name) as house:
                for check in to_run:
                    if kind.can(check.needs):
                        tally.run(check, house)
        except servers.StartError as fault:
            tally.fail(f"{kind.name}: The engines and the gateway start.", fault)
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    sys.exit(1 if tally.failed or not tally.passed else 0)


if __name__ == "__main__":
    main()
