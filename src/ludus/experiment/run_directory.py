"""A run's directory: configuration, versions, checkpoints, policies, and the rows that it measured."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ludus.core.errors import UsageError
from ludus.experiment.config import Config, from_dict, read_toml
from ludus.storage.arrays import DamagedFileError
from ludus.storage.checkpoints import Checkpoints
from ludus.storage.files import cannot_write, sync, write_atomically
from ludus.storage.lock import DirectoryLock

# Whose versions a run notes, where they are installed.
_PACKAGES = (
    *("ludus", "jax", "jaxlib", "equinox", "optax", "numpy", "scipy", "safetensors"),
    *("jaxmarl", "pgx", "jumanji", "gymnax", "gymnasium", "pettingzoo", "mpe2", "magent2", "open_spiel", "ray"),
)
METRICS, EVALUATIONS, TIMING = "metrics.jsonl", "evaluations.jsonl", "timing.jsonl"


@dataclass
class RunDirectory:
    """Paths and rows of one run; `create` and `open` take its lock."""

    path: Path
    lock: DirectoryLock | None = None

    @staticmethod
    def default(config: Config) -> Path:
        """A new name under `runs/`."""
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{config.to_dict()['algorithm']['name']}-{config.environment}")
        base = Path("runs") / f"{name}-s{config.settings.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        path, n = base, 1
        while path.exists():
            path, n = base.with_name(f"{base.name}-{n}"), n + 1
        return path

    @classmethod
    def create(cls, path: Path, config: Config) -> RunDirectory:
        """A fresh directory, locked. Raises `UsageError` if it is in use or already holds a run."""
        run = cls(path, DirectoryLock(path))
        if run.config_path.exists():
            run.close()
            raise UsageError(f"{path} already holds a run; continue it with: ludus resume {path}")
        try:
            write_atomically(run.path / "versions.json", json.dumps(versions(), indent=2).encode())
            write_atomically(run.config_path, config.to_toml().encode())
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path: Path, *, lock: bool) -> RunDirectory:
        """An existing run, locked to continue it or not to read it."""
        if not os.path.isfile(path / "config.toml"):
            raise UsageError(f"{path} holds no run (there is no config.toml in it)")
        return cls(path, DirectoryLock(path) if lock else None)

    def close(self) -> None:
        """Release the lock."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    @property
    def config_path(self) -> Path:
        """Where the resolved configuration stands."""
        return self.path / "config.toml"

    def config(self) -> Config:
        """The configuration that the run was started with."""
        return from_dict(read_toml(self.config_path), str(self.config_path))

    @property
    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(self.path / "checkpoints")

    def policy_path(self, seed: int, group: str) -> Path:
        """Where the policy of a seed and a group stands."""
        return self.path / "policies" / f"seed{seed}" / f"{group}.safetensors"

    def append(self, file: str, rows: list[dict[str, Any]]) -> None:
        """Add rows to one of the row files."""
        text = "".join(json.dumps(row, allow_nan=True) + "\n" for row in rows)
        try:
            with open(self.path / file, "a") as handle:
                handle.write(text)
        except OSError as error:
            raise cannot_write(self.path / file, error) from error

    def rows(self, file: str) -> list[dict[str, Any]]:
        """The whole rows of a row file."""
        path = self.path / file
        if not path.exists():
            return []
        found = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break  # a line cut short by a crash: nothing after it counts
            if not isinstance(row, dict) or (file in (METRICS, EVALUATIONS) and not row.keys() >= {"steps", "seed"}):
                raise DamagedFileError(f"{path}, line {number}, is no row that Ludus wrote: it has no steps or no seed")
            found.append(row)
        return found

    def sizes(self) -> dict[str, int]:
        """Bytes of the row files, as a checkpoint remembers them."""
        return {file: self._size(file) for file in (METRICS, EVALUATIONS)}

    def sync(self) -> None:
        """Make rows durable before a checkpoint that counts on them."""
        for file in (METRICS, EVALUATIONS):
            if (self.path / file).exists():
                try:
                    sync(self.path / file)
                except OSError as error:
                    raise cannot_write(self.path / file, error) from error

    def truncate(self, sizes: dict[str, int]) -> None:
        """Drop the rows written after a checkpoint: they will be written again."""
        for file, size in sizes.items():
            if self._size(file) < size:
                raise UsageError(f"{self.path / file} is shorter than its checkpoint says; it was changed by hand")
            if (self.path / file).exists():
                os.truncate(self.path / file, size)

    def _size(self, file: str) -> int:
        path = self.path / file
        return path.stat().st_size if path.exists() else 0


def versions() -> dict[str, Any]:
    """What ran: packages, Python, machine, and git state where there is one."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"packages": found, "python": platform.python_version(), "cores": os.cpu_count(), "git": _git()}


def _git() -> dict[str, Any] | None:
    try:
        ask = lambda *words: subprocess.run(
            ["git", *words], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
