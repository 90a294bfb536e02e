"""The checks of a script that ran elsewhere, counted here."""

import re


def counted(said, script, tally):
    """`said` is what the script printed by a Tally of its own."""
    for line in said.splitlines():
        if line.startswith("ok  "):
            tally.check(line.removeprefix("ok  ").strip(), "")
        elif line.startswith("FAIL "):
            what, _, wrong = line.removeprefix("FAIL ").partition(": ")
            tally.check(what, wrong or "it failed")
    ended = re.search(r"^\d+ passed, \d+ failed$", said, re.MULTILINE)
    tally.check(f"{script} came to its end", "" if ended else said[-1500:])
