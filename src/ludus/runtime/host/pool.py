"""Processes of environments seen from the one that decides for them: told what to do, waited for, replaced."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from ludus.core.errors import UsageError
from ludus.core.spec import GameSpec
from ludus.envs.registry import SUITES
from ludus.runtime.host.board import BROKE, USELESS, Board, allocate
from ludus.runtime.host.worker import BEGIN, QUIT, STEP, work

BORN = b"{"  # how the first words of a process begin
BLOCKS = 2  # of each process: one steps while the other is decided for


@dataclass
class Faults:
    """What went wrong with environments, and what it cost."""

    counts: Counter = field(default_factory=Counter)  # exception, useless value, crash, hang
    messages: list[str] = field(default_factory=list)  # the last few
    recovery: list[float] = field(default_factory=list)  # seconds from a process's death to its successor's readiness
    quarantined: set[int] = field(default_factory=set)
    missed: int = 0  # steps of environments that are there in rollouts but were not played, because processes died

    @property
    def told(self) -> dict[str, int]:
        """What is worth writing down."""
        return {**self.counts, **({"missed step": self.missed} if self.missed else {})}

    def add(self, kind: str, message: str) -> None:
        """Count a fault and remember what was said."""
        self.counts[kind] += 1
        self.messages = [*self.messages[-9:], message]


@dataclass
class Client:
    """Some environments of one process, which step together."""

    worker: int
    block: int
    rows: list[int]
    stepping: bool = False
    landed: bool = False  # whether it has stepped and nobody has looked yet
    begun: bool = False  # whether its process knows its episodes
    cut: bool = False  # whether what comes next breaks off its episodes, because their process died
    behind: bool = False  # whether it has just come back from that
    since: float = 0.0  # when it was asked to step, or has stepped
    took: float = 0.0  # seconds of its last step
    late: bool = False  # whether a batch was closed without it since it was asked: the next does not wait for it


class Pool:
    """`num_envs` environments in `workers` processes, in two halves of clients."""

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        spec: GameSpec,
        num_envs: int,
        workers: int,
        *,
        seed: int,
        patience: float = 0.005,  # seconds that a batch waits for the rest of its half
        timeout: float = 60.0,  # seconds after which a process that does not answer is replaced
        tolerance: int = 10,  # faults of an environment without an episode between them, then it is left out
        lives: Any = None,  # how many episodes each environment has begun before
    ):
        if not 1 <= workers <= num_envs:
            raise UsageError(f"{num_envs} environments cannot be spread over {workers} processes")
        self._context = _context(name)
        self.spec, self.num_envs = spec, num_envs
        self.patience, self.timeout, self.tolerance = patience, timeout, tolerance
        self._name, self._options, self._seed = name, options, seed
        self._memory = allocate(self._context, spec, num_envs)
        self.board = Board(spec, num_envs, self._memory)
        if lives is not None:
            self.board.life[:] = lives
        self.faults = Faults()
        self._bad: Counter = Counter()  # faults of each environment since it last completed an episode
        self._fruitless: Counter = Counter()  # how often a process died or hung since any of its environments stepped
        self.clients: list[Client] = []
        self._blocks: list[list[list[int]]] = []
        edges = [num_envs * w // workers for w in range(workers + 1)]
        for w in range(workers):
            rows = list(range(edges[w], edges[w + 1]))
            middle = -(-len(rows) // BLOCKS)
            blocks = [rows[:middle], rows[middle:]] if len(rows) > 1 else [rows]
            self._blocks.append(blocks)
            self.clients += [Client(w, b, own) for b, own in enumerate(blocks)]
        halves: tuple[list[Client], list[Client]] = ([], [])
        for client in self.clients:
            halves[client.block if len(self._blocks[client.worker]) > 1 else client.worker % 2].append(client)
        self.halves = [half for half in halves if half]
        self._processes: list[Any] = [None] * workers  # that make environments, and keep them for those that serve
        self.serving: list[tuple[int, int]] = [(0, 0)] * workers  # which of their copies steps them, and its process id
        self._pipes: list[Connection] = [None] * workers  # type: ignore[list-item]
        self._making: dict[int, float] = {}  # processes that make their environments still, and since when
        self._unmade: Counter = Counter()  # how often a process died over that, in a row
        for w in range(workers):
            self._launch(w)
        try:
            for w in range(workers):
                if self._pipes[w].poll(self._patient):
                    self._made(w)
                else:
                    self._too_slow(w)
        except BaseException:
            self.close()
            raise
        self.faults.recovery.clear()

    @property
    def pids(self) -> list[int]:
        """Of the processes that make environments."""
        return [p.pid for p in self._processes]

    def _launch(self, worker: int) -> None:
        ours, theirs = self._context.Pipe()
        arguments = (
            theirs,
            self._memory,
            self.spec,
            self.num_envs,
            self._blocks[worker],
            self._name,
            self._options,
            self._seed,
        )
        process = self._context.Process(target=work, args=arguments, daemon=True, name=f"environments-{worker}")
        with _nobody_is_main():
            process.start()
        theirs.close()
        self._processes[worker], self._pipes[worker], self.serving[worker] = process, ours, (0, 0)
        self._making[worker] = time.monotonic()

    @property
    def _patient(self) -> float:
        return 120.0 + self.timeout  # seconds that making environments may take

    def _too_slow(self, worker: int) -> None:
        raise UsageError(f"a process of {self._name} did not make its environments within {self._patient:.0f} s")

    def _made(self, worker: int) -> None:
        """Hear that a process has made its environments; its clients that should step do so now."""
        try:
            while (heard := self._pipes[worker].recv_bytes())[:1] != BORN:
                pass  # the last words of one that hung
        except (EOFError, OSError) as error:
            self._unmade[worker] += 1
            if not self.faults.counts or self._unmade[worker] >= self.tolerance:
                raise UsageError(f"a process of {self._name} died while it made its environments") from error
            self.faults.add("crash", f"process {worker} of {self._name} died while it made its environments")
            self._replace(worker)
            return
        said = json.loads(heard)
        if "cannot" in said:
            raise UsageError(said["cannot"])
        self._unmade[worker] = 0
        self._welcome(worker, said, self._making.pop(worker))

    def _welcome(self, worker: int, said: dict[str, Any], since: float) -> None:
        """A process serves; let its clients that should step do so now."""
        self.serving[worker] = said["birth"], said["pid"]
        self.faults.recovery.append(time.monotonic() - since)
        for client in self.clients:
            if client.worker == worker and client.stepping:
                self.ask(client)

    def ask(self, client: Client) -> None:
        """Let a client step (its actions stand on the board), or begin if its process knows nothing of it."""
        client.stepping, client.since = True, time.monotonic()
        if client.worker in self._making:
            return  # it is asked as soon as its environments are made
        with contextlib.suppress(OSError):  # a dead process is found by those who wait for it
            order, birth = STEP if client.begun else BEGIN, self.serving[client.worker][0]
            self._pipes[client.worker].send_bytes(bytes([order, client.block, birth]))

    def begin(self) -> None:
        """New episodes everywhere."""
        for client in self.clients:
            client.begun = client.cut = client.behind = client.landed = client.late = False
            self.ask(client)

    def arrivals(self) -> list[Client]:
        """Clients of one half that have stepped: all of them, or those that have when the first one's wait is over.

        That is as long as it took itself, and no longer than `patience`; meanwhile the other half may be first. Who is
        late for one batch is not waited for by the next, so that one that hangs does not slow the others down.
        Processes that died, or take longer than `timeout`, are replaced; their clients' episodes are broken off.
        """
        seconds = 0.0  # at first whoever has something to say already is heard
        while True:
            if stepping := [c for c in self.clients if c.stepping]:
                self._collect(stepping, seconds)
            now, seconds = time.monotonic(), self.timeout
            for half in self.halves:
                landed = [c for c in half if c.landed]
                if not landed:
                    continue
                waited_for = [c for c in half if c.stepping and not (c.late or c.worker in self._making)]
                left = min(c.since + min(self.patience, c.took) for c in landed) - now
                if not waited_for or left <= 0:
                    for client in waited_for:
                        client.late = True
                    for client in landed:
                        client.landed = False
                    self.halves.sort(key=lambda other: other is half)  # the other has its turn
                    return landed
                seconds = min(seconds, left)
            assert stepping, "nobody was asked to step"

    def _collect(self, waiting: list[Client], seconds: float) -> None:
        """Hear whoever has something to say, for at most so long, and replace those who are silent for too long."""
        workers = sorted({c.worker for c in waiting})
        due = {w: min(c.since for c in waiting if c.worker == w) + self.timeout for w in workers}
        due |= {w: self._making[w] + self._patient for w in workers if w in self._making}
        ready = wait([self._pipes[w] for w in workers], max(0.0, min(seconds, min(due.values()) - time.monotonic())))
        for w in workers:
            if self._pipes[w] in ready:
                self._made(w) if w in self._making else self._read(w)
            elif due[w] > time.monotonic():
                continue
            elif w in self._making:
                self._too_slow(w)
            else:
                self._failed(w, "hang", f"process {w} of {self._name} did not answer for {self.timeout:g} s")
                self._renew(w)

    def _read(self, worker: int) -> None:
        """All that a process has said so far."""
        pipe = self._pipes[worker]
        try:
            while pipe.poll():
                said = pipe.recv_bytes()
                if said[:1] == BORN:
                    born = json.loads(said)
                    since, code = born["died"]
                    self._crashed(worker, code)
                    self._lost(worker)
                    self._welcome(worker, born, since)
                else:
                    self._heard(worker, said)
        except (EOFError, OSError):
            self._crashed(worker, self._processes[worker].exitcode)
            self._replace(worker)

    def _crashed(self, worker: int, code: int | None) -> None:
        self._failed(
            worker, "crash", f"process {worker} of {self._name} died" + (f" (exit code {code})" if code else "")
        )

    def _failed(self, worker: int, kind: str, message: str) -> None:
        self.faults.add(kind, message)
        self._fruitless[worker] += 1
        if self._fruitless[worker] >= self.tolerance:
            raise UsageError(f"{message}, {self.tolerance} times in a row without a step of its environments")

    def _heard(self, worker: int, said: bytes) -> None:
        client = next(c for c in self.clients if c.worker == worker and c.block == said[0])
        client.stepping, client.landed, client.late = False, True, False
        now = time.monotonic()
        client.since, client.took = now, now - client.since
        if client.begun:
            self._fruitless[worker] = 0
        else:
            client.begun = True
            if client.cut:
                self._break_off(client)
        for row in client.rows:
            if self.board.terminated[row] or (self.board.truncated[row] and not self.board.fault[row]):
                self._bad[row] = 0
        for row, message in json.loads(said[1:] or b"{}").items():
            self._count(int(row), message)

    def _break_off(self, client: Client) -> None:
        """What a client shows whose episodes were lost with their process: an end that nobody learns from."""
        board, rows = self.board, client.rows
        for x in board.reward.values():
            x[rows] = 0.0
        for name, x in board.end["acting"].items():
            x[rows] = False
            board.end["observation"][name][rows] = 0.0
        board.terminated[rows], board.truncated[rows], board.fault[rows] = False, True, BROKE
        client.cut, client.behind = False, True

    def _count(self, row: int, message: str) -> None:
        kind = "useless value" if self.board.fault[row] == USELESS else "exception"
        self.faults.add(kind, f"environment {row}: {message}")
        self._bad[row] += 1
        if self._bad[row] >= self.tolerance:
            self.faults.quarantined.add(row)
            self.board.asleep[row] = True
        if len(self.faults.quarantined) == self.num_envs:
            raise UsageError(
                f"every environment of {self._name} failed {self.tolerance} times without completing an episode; the "
                f"last: {message}"
            )

    def _replace(self, worker: int) -> None:
        """A new process in the place of a dead one; the others play on while it makes its environments."""
        process = self._processes[worker]
        process.kill()
        self._end(worker)
        process.join()
        self._pipes[worker].close()
        self._launch(worker)
        self._lost(worker)

    def _renew(self, worker: int) -> None:
        """End a process that hangs; the one that keeps its games, if there is one, puts another in its place."""
        if self.serving[worker][1] == self._processes[worker].pid:
            self._replace(worker)
            return
        self._lost(worker)
        self._making[worker] = time.monotonic()
        self._end(worker)

    def _end(self, worker: int) -> None:
        """Kill the process that serves."""
        pid = self.serving[worker][1]
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _lost(self, worker: int) -> None:
        """The episodes of a process are lost."""
        for client in self.clients:
            if client.worker == worker:
                client.begun, client.cut = False, True
                for row in client.rows:
                    self._bad[row] += 1

    def close(self) -> None:
        """End all processes."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            if process is None:
                continue
            with contextlib.suppress(OSError):
                pipe.send_bytes(bytes([QUIT, 0, 0]))
        for worker, (pipe, process) in enumerate(zip(self._pipes, self._processes, strict=True)):
            if process is None:
                continue
            process.join(2.0)
            if process.is_alive():
                process.kill()
                self._end(worker)
                process.join()
            pipe.close()


_CONTEXT: Any = None


def _context(name: str) -> Any:
    """Processes are forked from one that has imported what they need, the first game's package too, and started no
    threads."""
    global _CONTEXT
    if _CONTEXT is None:
        _CONTEXT = multiprocessing.get_context("forkserver")
        package = SUITES.get(name.partition("/")[0], ("", None, None))[1]
        game = sorted(m for m in sys.modules if package is not None and m.partition(".")[0] == package)
        _CONTEXT.set_forkserver_preload(["ludus.runtime.host.worker", *game])
        quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
        quiet["PYGAME_HIDE_SUPPORT_PROMPT"] = quiet["SDL_VIDEODRIVER"] = "dummy"
        before = {k: os.environ.get(k) for k in quiet}
        os.environ.update(quiet)  # each process has a core of its own at most, and no accelerator
        try:
            from multiprocessing import forkserver

            forkserver.ensure_running()
        finally:
            for k, old in before.items():
                if old is None:
                    os.environ.pop(k, None)
                else:
                    os.environ[k] = old
    return _CONTEXT


@contextlib.contextmanager
def _nobody_is_main() -> Iterator[None]:
    """Processes need nothing of the main module, so that a script without a main guard is not run again in them."""
    main: Any = sys.modules["__main__"]
    hidden = {k: main.__dict__.pop(k) for k in ("__file__", "__spec__") if k in main.__dict__}
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)
