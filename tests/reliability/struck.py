"""`ludus` that gets a signal at an exact moment: `python struck.py SIGNAL ROW ARGUMENTS…`.

The signal comes when the metrics of call ROW have just been written, before its checkpoint.
"""

from __future__ import annotations

import os
import signal
import sys

from ludus.cli.main import main
from ludus.experiment.run_directory import METRICS, RunDirectory

number, row = signal.Signals[sys.argv[1]], int(sys.argv[2])
append = RunDirectory.append


def append_and_strike(self: RunDirectory, file: str, rows: list) -> None:
    append(self, file, rows)
    if file == METRICS and len(self.rows(METRICS)) == row * len(rows):
        os.kill(os.getpid(), number)


RunDirectory.append = append_and_strike
sys.exit(main(sys.argv[3:]))
