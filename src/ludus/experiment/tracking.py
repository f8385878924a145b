"""Optional writers for TensorBoard and Weights & Biases, switched on by LUDUS_TRACK=tensorboard,wandb."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from ludus.core.errors import UsageError, unknown

MODULES = {"tensorboard": "tensorboard", "wandb": "wandb"}


def check_trackers() -> list[str]:
    """The writers asked for. Raises `UsageError` for one that is unknown or not installed."""
    asked = [name for name in os.environ.get("LUDUS_TRACK", "").split(",") if name]
    for name in asked:
        if name not in MODULES:
            raise unknown("tracker", name, list(MODULES))
        if importlib.util.find_spec(MODULES[name]) is None:
            raise UsageError(f"LUDUS_TRACK={name} needs: pip install 'ludus[{name}]'")
    return asked


class Tracker:
    """Sends rows of training and evaluations to the writers asked for; to none by default."""

    def __init__(self, directory: Path):
        self.writers = [_writer(name, directory) for name in check_trackers()]

    def log(self, rows: list[dict[str, Any]]) -> None:
        """One call's rows."""
        for writer in self.writers:
            for row in rows:
                values = {f"seed{row['seed']}/{k}": v for k, v in row["losses"].items()}
                values |= {f"seed{row['seed']}/return/{k}": v for k, v in row["return"].items() if v is not None}
                writer(values, row["steps"])

    def log_evaluations(self, rows: list[dict[str, Any]]) -> None:
        """Of every seed, the mean returns per agent."""
        for writer in self.writers:
            for row in rows:
                values = {f"seed{row['seed']}/evaluation/{k}": v for k, v in row["mean_return"].items()}
                writer(values, row["steps"])

    def close(self) -> None:
        """Let the writers finish."""
        for writer in self.writers:
            writer(None, 0)


def _writer(name: str, directory: Path) -> Any:
    if name == "tensorboard":
        from tensorboard.summary import Writer

        board = Writer(str(directory / "tensorboard"))

        def to_board(values: dict[str, float] | None, step: int) -> None:
            if values is None:
                board.close()
                return
            for key, value in values.items():
                board.add_scalar(key, value, step)

        return to_board
    import wandb

    run = wandb.init(project="ludus", dir=str(directory), name=directory.name)
    return lambda values, step: run.finish() if values is None else run.log(values, step=step)
