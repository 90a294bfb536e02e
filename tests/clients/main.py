"""Runs all checks against each kind of engine at hand and counts them.

    python main.py --tidegate PROGRAM --node SCRIPT --logs FOLDER
        [--llama-server PROGRAM --llama-model FILE --llama-wide-model FILE] [--only NAME]

One line per check, then `N passed, N failed`; exit 0 if none failed.
"""

import argparse
import pathlib
import shutil
import signal
import sys

import answers
import breaks
import checks
import ending
import llama_cases
import matrix
import programs
import ramp
import refusals
import report
import routes
import said
import servers
import speakers
import too_long


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidegate", required=True, type=pathlib.Path)
    parser.add_argument("--node", required=True, type=pathlib.Path, help="node/speak.mjs beside its packages")
    parser.add_argument("--logs", required=True, type=pathlib.Path, help="written anew on each run")
    parser.add_argument("--llama-server", type=pathlib.Path)
    parser.add_argument("--llama-model", type=pathlib.Path)
    parser.add_argument("--llama-wide-model", type=pathlib.Path)
    parser.add_argument("--only", help="the checks of one function or module, such as `ramp` or `too_long`")
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
        kinds.append(servers.LlamaEmbeddings(given.llama_server, given.llama_model))
        kinds.append(servers.LlamaWide(given.llama_server, given.llama_wide_model))
    else:
        print("skip  llama-server: there is none; tests/clients/llama/install.sh brings one", flush=True)

    versions = report.versions(given.node)
    print(", ".join(f"{name} {version}" for name, version in versions.items()), flush=True)
    node = speakers.Node(given.node, given.logs / "node.log")
    tally = checks.Tally()
    tables, cells = [], {}
    try:
        for kind in kinds:
            lines, cells[kind.name] = run(given, kind, speakers.all_speakers(node), tally)
            tables += lines
    finally:
        node.stop()
    text = "\n".join(tables)
    if given.only is None:
        (given.logs / "matrix.txt").write_text(text + "\n")
        report.write(given.logs / "clients.json", versions, cells, tally.outcomes)
        print(text)
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    sys.exit(1 if tally.failed or not tally.passed else 0)


def run(given, kind, clients, tally):
    """All checks before engines of this kind; its matrix, as lines and as cells."""
    try:
        with servers.House(given.tidegate, kind, given.logs / kind.name, clients) as house:
            # Faults come last, since an overload that an engine reports closes the deployment for a moment.
            grid = matrix.checks(house)
            waits = [check for check in grid if check.sentence.endswith(": 429")]
            rest = [check for check in grid[1:] if check not in waits]
            # Who waits for a minute to pass does so right after it was spent: first one account, then those of all clients.
            to_run = refusals.FIRST + refusals.ALL + grid[:1] + waits
            to_run += answers.ALL + said.ALL + rest + routes.ALL + too_long.ALL + llama_cases.ALL + ramp.ALL + breaks.ALL + ending.ALL
            for check in to_run:
                if kind.can(check.needs) and given.only in (None, check.function.__name__, check.function.__module__):
                    tally.run(check, house)
            return matrix.table(house), house.cells
    except programs.StartError as fault:
        tally.fail(f"{kind.name}: The engines and the gateway start.", fault)
        return [], {}


if __name__ == "__main__":
    main()
