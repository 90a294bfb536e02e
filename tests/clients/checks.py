"""A check: a sentence that is true or not, the function that finds out, and what the engine must be able to do."""

import dataclasses
import signal
import time
import traceback
import typing

# A check that takes longer than this has failed. The longest waits out a budget's minute.
CHECK_SECONDS_MAX = 100


@dataclasses.dataclass
class Check:
    sentence: str
    function: typing.Callable
    needs: str
    seconds_max: int


def register(checks, needs="", seconds_max=CHECK_SECONDS_MAX):
    """Adds the decorated function to `checks`, under its docstring as a sentence."""

    def add(function):
        checks.append(Check(" ".join(function.__doc__.split()), function, needs, seconds_max))
        return function

    return add


class Tally:
    """Runs checks one by one, says how each went, and counts."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        # Every check with what came of it.
        self.outcomes = []

    def run(self, check, house):
        begun = time.monotonic()
        fault = self._fault(check, house)
        seconds = time.monotonic() - begun
        self.outcomes.append({"engine": house.kind.name, "check": check.sentence, "ok": fault is None})
        if fault is None:
            self.passed += 1
            print(f"ok    {house.kind.name}: {check.sentence} ({seconds:.1f} s)", flush=True)
        else:
            self.fail(f"{house.kind.name}: {check.sentence} ({seconds:.1f} s)", fault)

    def fail(self, what, fault):
        """Counts what did not hold."""
        self.failed += 1
        print(f"FAIL  {what}\n      {fault}", flush=True)

    @staticmethod
    def _fault(check, house):
        def out_of_time(*_):
            raise TimeoutError(f"not done after {check.seconds_max} s")

        signal.signal(signal.SIGALRM, out_of_time)
        signal.alarm(check.seconds_max)
        try:
            check.function(house)
        except Exception as fault:  # Whatever it is, the other checks still have to run.
            place = traceback.extract_tb(fault.__traceback__)
            line = next((f"{step.name}:{step.lineno}" for step in reversed(place) if "/clients/" in step.filename), "")
            return f"{type(fault).__name__}: {fault} [{line}]"
        finally:
            signal.alarm(0)
        return None


def equal(found, expected, what):
    """Fails unless `found` is `expected`, and says both."""
    assert found == expected, f"{what}: expected {expected!r}, found {found!r}"


def raises(kind, call):
    """The exception of `kind` that `call` raises; fails if it raises another or none."""
    try:
        result = call()
    except kind as fault:
        return fault
    except Exception as other:
        raise AssertionError(f"expected {kind.__name__}, found {type(other).__name__}: {other}") from other
    raise AssertionError(f"expected {kind.__name__}, but the call returned {result!r:.200}")
