"""Runs the examples, and the code blocks of README and docs, with few steps; writes what failed as JSON.

    python tests/run_documentation.py RESULTS.json ITEM [ITEM …]

An item is a path from the repository's root: `examples/NAME.py`, run as a script, or a Markdown page. Of a page, all
```python blocks run in order as one module; of its ```bash blocks, `ludus train …` and `ludus league PRESET …` run with
--dry-run, and `ludus list` and `ludus describe` as they are. A block after the line `<!-- not run -->` is left out.

All items share one process, so that imports and compiled programs are paid for once; each has a directory of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import sys
import tempfile
import traceback
import types
from pathlib import Path
from typing import Any

import ludus
from ludus.cli.main import main as ludus_command
from ludus.league.presets import PRESETS

_done: set[str] = set()
ROOT = Path(__file__).resolve().parent.parent
STEPS, EPISODES = 2048, 16
BLOCK = re.compile(
    r"^(?P<skip><!-- not run -->\n+)?^```(?P<language>python|bash)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and code of a page's blocks, without those not to be run."""
    return [(m["language"], m["code"]) for m in BLOCK.finditer(text) if not m["skip"]]


def run_page(path: Path) -> None:
    """Run a page's blocks but those run before for another page; an error names the line on the page."""
    text = path.read_text()
    module = sys.modules["documentation"] = types.ModuleType("documentation")
    for language, code in blocks(text):
        line = text[: text.index(code)].count("\n")
        if code in _done:
            continue
        _done.add(code)
        if language == "python":
            exec(compile("\n" * line + code, str(path), "exec", dont_inherit=True), vars(module))
        else:
            run_commands(code, line)


def run_commands(code: str, line: int) -> None:
    """Run the `ludus` commands of a block; training ones only up to their configuration."""
    for offset, command in enumerate(code.splitlines(), start=1):
        words = shlex.split(command, comments=True)
        if words[:1] != ["ludus"]:
            continue
        league = words[1] == "league" and words[2] in PRESETS
        dry = ["--dry-run"] if words[1] == "train" or league else []
        status = ludus_command([*words[1:], *dry])
        assert status == 0, f"line {line + offset}: {command!r} exited with {status}"


def run_example(path: Path) -> None:
    """Run an example as a script."""
    sys.argv = [str(path), "--steps", str(STEPS)]
    runpy.run_path(str(path), run_name="__main__")


def cap(function: Any, **limits: int) -> Any:
    """The function, with some of its keywords no larger than these."""

    def capped(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords | {k: min(keywords.get(k, v), v) for k, v in limits.items()})

    return capped


def run(item: str) -> str | None:
    """Run one item in a temporary directory; returns the traceback of its failure."""
    path = ROOT / item
    output = io.StringIO()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                run_example(path) if path.suffix == ".py" else run_page(path)
        except (Exception, SystemExit):
            return f"{output.getvalue()[-2000:]}\n{traceback.format_exc()}"
        finally:
            os.chdir(ROOT)
    return None


if __name__ == "__main__":
    ludus.train = cap(ludus.train, steps=STEPS, evaluate_episodes=EPISODES)
    ludus.evaluate = cap(ludus.evaluate, episodes=EPISODES)
    Path(sys.argv[1]).write_text(json.dumps({item: run(item) for item in sys.argv[2:]}))
