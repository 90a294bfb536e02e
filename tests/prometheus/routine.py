"""What operators do every week: a reload, a drain, a rolling restart of the engines, an upgrade. No alert is for any of it.

The rules' times are divided here, so that whatever lasts for two seconds would be told.
"""

import json
import signal
import time
import urllib.request

from programs import wait_for

# As long as the longest `for` of the divided rules, and the window of their rates.
SETTLE_SECONDS = 4
EXIT_SECONDS_MAX = 60


def change(admin, token, path, method="POST"):
    """Changes something by the admin API."""
    request = urllib.request.Request(f"{admin}{path}", headers={"Authorization": f"Bearer {token}"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def fired(prometheus, expected, seconds):
    """Alerts that fire within so many seconds and are not expected."""
    seen = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen |= prometheus.firing() - expected
        time.sleep(0.5)
    return seen


def check(programs, gateway, admin, token, prometheus, restarts, deployment, expected, tally):
    """Does all of it at `deployment`, whose engines are restarted by what is called; the process that serves afterwards."""
    file = programs.folder / "tidegate.yaml"
    edited = file.with_suffix(".edited")
    edited.write_text(file.read_text() + "# read again\n")
    edited.replace(file)
    change(admin, token, "/api/v1/reload")
    tally.check("no alert fires at a reload", fired(prometheus, expected, SETTLE_SECONDS))

    # Each engine in turn: drained, ended, started again at the same place, put back.
    seen = set()
    for nth, restart in enumerate(restarts):
        replica = f"/api/v1/deployments/{deployment}/replicas/{nth}"
        change(admin, token, f"{replica}/drain")
        seen |= fired(prometheus, expected, SETTLE_SECONDS)
        restart()
        seen |= fired(prometheus, expected, SETTLE_SECONDS)
        change(admin, token, f"{replica}/drain", "DELETE")
        seen |= fired(prometheus, expected, SETTLE_SECONDS)
    tally.check("no alert fires while engines are drained, restarted and put back one by one", seen)

    successor = programs.start("gateway-next", programs.tidegate, "serve", "--config", file, "--upgrade")
    successor.said(r"(waiting) at")
    gateway.process.send_signal(signal.SIGQUIT)
    seen = fired(prometheus, expected, SETTLE_SECONDS)
    gateway.process.wait(EXIT_SECONDS_MAX)
    wait_for(f"{admin}/readyz", successor)
    tally.check("no alert fires at an upgrade", seen | fired(prometheus, expected, SETTLE_SECONDS))
    return successor
