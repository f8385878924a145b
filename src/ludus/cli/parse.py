"""Flags to values; what does not fit becomes one sentence."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import tyro

from ludus.core.errors import UsageError, nearest


def parse(kind: Any, arguments: list[str], command: str, **settings: Any) -> Any:
    """Parse with tyro. Raises `UsageError` for wrong flags and values; --help prints and exits with 0."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=arguments, prog=f"ludus {command}", **settings)
    except SystemExit as end:
        if not end.code:
            raise
        raise UsageError(sentence(said.getvalue(), command)) from None


def sentence(box: str, command: str) -> str:
    """tyro's framed explanation as one sentence."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in box.splitlines()[1:]]
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line and not line.strip("─"):
            blocks.append([])
        elif line:
            blocks[-1].append(line)
    problem = " ".join(blocks[0]).rstrip(".")
    meant = next((line for block in blocks for line in block if line.startswith("--") and "meant" in block[0]), "")
    hint = f"; did you mean '{meant.split()[0].rstrip(',')}'?" if meant else ""
    if choice := re.search(r"invalid choice '(.*?)' for .* Expected one of \((.*)\)", problem):
        hint = nearest(choice[1], re.findall(r"'(.*?)'", choice[2]))
    return f"{problem[:1].lower()}{problem[1:]}{hint} (ludus {command} --help lists all)"
