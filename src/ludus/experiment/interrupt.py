"""Signals: the first asks a run to stop at the next safe moment, a second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")
GRACE = 8.0  # seconds that a stop waits for the device program; after that the last checkpoint must do


class Interrupted(Exception):
    """The run was asked to stop; `code` is the exit code."""

    def __init__(self, code: int):
        super().__init__(f"stopped with code {code}")
        self.code = code
        self.run = "RUN"  # the directory to go on with


class Interrupt:
    """Watches SIGINT and SIGTERM while used as a context (in the main thread; elsewhere it only runs work)."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.since = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(130)
        self.signal, self.since = number, time.monotonic()

    @property
    def asked(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal is not None

    def run(self, work: Callable[[], Result]) -> Result:
        """Do device work in another thread, so that signals are heard meanwhile.

        Raises `Interrupted` if a stop is asked for and the work is not done within the grace time.
        """
        future: Future[Result] = Future()
        threading.Thread(target=_fulfil, args=(future, work), daemon=True).start()
        while True:
            try:
                return future.result(timeout=0.2)
            except TimeoutError:
                if future.done():
                    raise
                if self.asked and time.monotonic() - self.since > GRACE:
                    raise Interrupted(130) from None


def _fulfil(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
