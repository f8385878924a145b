"""What a person sees while training: a live table on a terminal, plain lines elsewhere, nothing if quiet."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol, runtime_checkable

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


@runtime_checkable
class Display(Protocol):
    """Hears of everything that happens in a run."""

    def say(self, text: str) -> None:
        """One line."""

    def warn(self, text: str) -> None:
        """One line that must be heard: something is damaged."""

    def update(self, row: dict[str, Any]) -> None:
        """The newest numbers."""

    def close(self) -> None:
        """The run is over."""


class Quiet:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Print it all the same."""
        print(f"ludus: {text}", file=sys.stderr, flush=True)

    def update(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """Plain lines on standard error, a few in a minute."""

    def __init__(self, every: float = 5.0):
        self.every, self.last = every, -1e9

    def say(self, text: str) -> None:
        """Print it."""
        print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Print it."""
        self.say(text)

    def update(self, row: dict[str, Any]) -> None:
        """Print the numbers if the last line is old enough."""
        if time.monotonic() - self.last < self.every and row["steps"] < row["total"]:
            return
        self.last = time.monotonic()
        returns = "  ".join(f"{name} {value:.3f}" for name, value in row["returns"].items())
        self.say(
            f"{row['steps']:>11,} / {row['total']:,} steps  {row['rate']:>9,.0f} steps/s  "
            f"{row['left']:>5.0f} s left  return per agent: {returns or '(no episode ended)'}"
        )

    def close(self) -> None:
        """Nothing is open."""


class Screen:
    """A live table with a progress bar."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("[bold]training"),
            BarColumn(None),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
        )
        self.task = self.progress.add_task("train", total=1)
        self.live = Live(self.progress, console=self.console, refresh_per_second=4, transient=False)
        self.live.start()

    def say(self, text: str) -> None:
        """Print it above the table."""
        self.live.console.print(text, highlight=False)

    def warn(self, text: str) -> None:
        """Print it above the table."""
        self.say(text)

    def update(self, row: dict[str, Any]) -> None:
        """Redraw."""
        self.progress.update(self.task, completed=row["steps"], total=row["total"])
        table = Table.grid(padding=(0, 3))
        table.add_row("steps per second", f"{row['rate']:,.0f}")
        table.add_row("compile time", f"{row['compile']:.1f} s")
        for name, value in row["returns"].items():
            table.add_row(f"return per agent, {name}", f"{value:.3f}")
        for name, value in row["losses"].items():
            table.add_row(name, f"{value:.4g}")
        self.live.update(Group(self.progress, table))

    def close(self) -> None:
        """Leave the last table on the screen."""
        self.live.stop()


def display(*, quiet: bool) -> Display:
    """The right one for where standard error goes."""
    if quiet:
        return Quiet()
    return Screen() if sys.stderr.isatty() else Lines()
