"""One owner at a time for a run directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from ludus.core.errors import UsageError


class DirectoryLock:
    """Held from construction until `release`, or the end of the process however it ends."""

    def __init__(self, directory: Path):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"cannot use {directory} as a run directory: {reason}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise UsageError(f"the run directory {directory} is in use by another process (pid {owner})") from error
        with contextlib.suppress(OSError):  # a full disk: who holds the lock is only for messages
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)
