"""Checkpoints of a run: the last few states, each one file; a damaged one is named and the one before it used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ludus.core.errors import UsageError
from ludus.storage.arrays import DamagedFileError, flatten, read_arrays, unflatten, write_arrays

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Checkpoints:
    """A directory of checkpoints, named by a growing number."""

    directory: Path
    keep: int = 3

    def paths(self) -> list[Path]:
        """Newest last."""
        return sorted(self.directory.glob("[0-9]*.safetensors"))

    def save(self, number: int, tree: Any, metadata: dict[str, Any]) -> Path:
        """Write a checkpoint, then forget the oldest beyond `keep`."""
        path = self.directory / f"{number:012d}.safetensors"
        write_arrays(path, flatten(tree), metadata)
        for old in self.paths()[: -self.keep]:
            old.unlink()
        return path

    def load(self, like: Tree, warn: Callable[[str], None]) -> tuple[Tree, dict[str, Any]]:
        """The newest checkpoint that is whole; `warn` hears of damaged ones. Raises `UsageError` if there is none."""
        paths, damage = self.paths(), []
        for path in reversed(paths):
            try:
                arrays, metadata = read_arrays(path)
                tree = unflatten(like, arrays, str(path))
            except DamagedFileError as error:
                damage.append(str(error))
                continue
            for what in damage:
                warn(f"{what}; the checkpoint before it is used")
            return tree, metadata
        found = (
            f"none of the {len(paths)} there can be read, the newest because {damage[0]}" if paths else "there is none"
        )
        raise UsageError(f"cannot resume: no good checkpoint in {self.directory} ({found}); nothing was changed")
