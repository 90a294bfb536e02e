"""Counts checks: a line for each, and at the end how many there were."""

import sys


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, faults):
        """`faults` is whatever says what is wrong; empty is good."""
        self.passed, self.failed = (self.passed, self.failed + 1) if faults else (self.passed + 1, self.failed)
        print(f"{'FAIL' if faults else 'ok  '} {what}{f': {faults}' if faults else ''}", flush=True)

    def end(self):
        """Says the sum; ends the program with 1 where something failed, or nothing was tried."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)
