"""The pages of the book and the README: their sections and blocks of code."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code: what stands behind its fence, its text, and the heading above it."""

    kind: str
    text: str
    heading: str


def blocks(text):
    """All of a page, in order."""
    found, heading, kind, lines = [], "", None, []
    for line in text.splitlines():
        if line.startswith("```"):
            if kind is None:
                kind, lines = line[3:].strip(), []
            else:
                found.append(Block(kind, "".join(f"{one}\n" for one in lines), heading))
                kind = None
        elif kind is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
    return found


def section(text, heading):
    """What stands below a heading, up to the next one of its depth."""
    depth = heading.split(" ", 1)[0]
    return re.search(rf"^{re.escape(heading)}\n(.*?)(?=^{depth} |\Z)", text, re.MULTILINE | re.DOTALL).group(1)


def tables(text):
    """The rows of all tables, each a list of cells; heads and rules left out."""
    rows, previous = [], ""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|---") and previous.startswith("|"):
            rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
        previous = line
    return rows
