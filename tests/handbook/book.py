"""mdBook over the pages: it builds, and complains of nothing."""

import pathlib
import shutil
import subprocess
import sys


def run(given, programs, tally):
    tool = shutil.which("mdbook", path=str(pathlib.Path(sys.executable).parent))
    assert tool, "mdbook was not installed"
    out = programs.folder / "html"
    ran = subprocess.run([tool, "build", given.house / "deploy/book", "--dest-dir", out], capture_output=True, text=True, timeout=60, check=False)
    complaints = [line for line in (ran.stdout + ran.stderr).splitlines() if "WARN" in line or "ERROR" in line]
    tally.check("mdBook builds the book without a warning", complaints or ("" if ran.returncode == 0 else ran.stderr[-600:]))
    pages = {page.relative_to(out).as_posix() for page in out.rglob("*.html")}
    tally.check("every page is there", {"index.html", "alerts.html", "reference/config.html", "sdks.html"} - pages)
