"""Optional writers for TensorBoard and Weights & Biases, switched on by LUDUS_TRACK=tensorboard,wandb."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ludus.core.errors import UsageError, unknown


class Tracker:
    """Sends metric rows to the writers asked for; to none by default."""

    def __init__(self, directory: Path):
        asked = [name for name in os.environ.get("LUDUS_TRACK", "").split(",") if name]
        self.writers = [_writer(name, directory) for name in asked]

    def log(self, rows: list[dict[str, Any]]) -> None:
        """One call's rows."""
        for writer in self.writers:
            for row in rows:
                values = {f"seed{row['seed']}/{k}": v for k, v in row["losses"].items()}
                values |= {f"seed{row['seed']}/return/{k}": v for k, v in row["return"].items() if v is not None}
                writer(values, row["steps"])

    def close(self) -> None:
        """Let the writers finish."""
        for writer in self.writers:
            writer(None, 0)


def _writer(name: str, directory: Path) -> Any:
    if name == "tensorboard":
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise UsageError("LUDUS_TRACK=tensorboard needs: pip install 'ludus[tensorboard]'") from error
        board = Writer(str(directory / "tensorboard"))

        def to_board(values: dict[str, float] | None, step: int) -> None:
            if values is None:
                board.close()
                return
            for key, value in values.items():
                board.add_scalar(key, value, step)

        return to_board
    if name == "wandb":
        try:
            import wandb
        except ImportError as error:
            raise UsageError("LUDUS_TRACK=wandb needs: pip install 'ludus[wandb]'") from error
        run = wandb.init(project="ludus", dir=str(directory), name=directory.name)
        return lambda values, step: run.finish() if values is None else run.log(values, step=step)
    raise unknown("tracker", name, ["tensorboard", "wandb"])
