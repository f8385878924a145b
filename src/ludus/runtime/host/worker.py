"""A process of environments: steps those of a block when told to, begins new episodes, and says what broke.

The process that makes the environments keeps them untouched; a copy of it serves. Where the copy dies, another one is
there within milliseconds, games and all.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from ludus.core.errors import UsageError
from ludus.core.host import EnvironmentFault, HostEnvironment, blank, problem_with
from ludus.core.spec import GameSpec
from ludus.envs.registry import make
from ludus.runtime.host.board import BROKE, FINE, USELESS, Board

STEP, BEGIN, QUIT = 0, 1, 2  # what a process is told to do with a block


def work(
    pipe: Any, memory: Any, spec: GameSpec, envs: int, blocks: list[list[int]], name: str, options: dict, seed: int
) -> None:
    """Serve until told to quit, or until nobody is there to tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        crew = Crew(Board(spec, envs, memory), blocks, name, options, seed)
    except Exception as error:  # whatever a game makes of being made
        with contextlib.suppress(OSError):
            pipe.send_bytes(json.dumps({"cannot": told(error)}).encode())
        return
    gc.freeze()  # what was imported and made stays, and need not be looked through again and again
    if _alone():
        _keep(pipe, crew)
    else:
        _serve(pipe, crew, {"birth": 0, "pid": os.getpid()})


def _alone() -> bool:
    """Whether this process may be copied: threads, which a game may have started, are not."""
    tasks = Path("/proc/self/task")
    return tasks.is_dir() and len(list(tasks.iterdir())) == 1


def _keep(pipe: Any, crew: Crew) -> None:
    """Let a copy of this process serve, and another one each time that it dies."""
    keeper, birth, died = os.getpid(), 0, None
    while True:
        _flush()
        serving = os.fork()
        if not serving:
            _die_with(keeper)
            code = 1
            try:
                _serve(pipe, crew, {"birth": birth, "pid": os.getpid(), "died": died})
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                _flush()
                os._exit(code)
        _, status = os.waitpid(serving, 0)
        if status == 0:
            return
        birth, died = (birth + 1) % 256, (time.monotonic(), os.waitstatus_to_exitcode(status))


def _flush() -> None:
    """Write out what games have printed: a copy would write it again, and one that ends so would not."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _die_with(parent: int) -> None:
    """Ask the system to end this process with its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _serve(pipe: Any, crew: Crew, born: dict[str, Any]) -> None:
    """Say who this is, then do what is asked of it; what was asked of one that died is not for this one."""
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        pipe.send_bytes(json.dumps(born).encode())
        while True:
            order, block, birth = pipe.recv_bytes()
            if order == QUIT:
                break
            if birth != born["birth"]:
                continue
            wrong = crew.begin(block) if order == BEGIN else crew.step(block)
            pipe.send_bytes(bytes([block]) + (json.dumps(wrong).encode() if wrong else b""))
    crew.close()


class Crew:
    """The environments of one process."""

    def __init__(self, board: Board, blocks: list[list[int]], name: str, options: dict[str, Any], seed: int):
        self.board, self.blocks, self.seed = board, blocks, seed
        self._make = lambda: hosted(name, options)
        self._games: dict[int, HostEnvironment] = {env: self._make() for block in blocks for env in block}
        self._blank = blank(board.spec)
        for game in self._games.values():
            if game.spec != board.spec:
                raise UsageError(f"'{name}' is not the same game each time it is made: its specification changed")

    def begin(self, block: int) -> dict[str, str]:
        """New episodes in all environments of a block; what broke, by environment."""
        wrong: dict[str, str] = {}
        for env in self.blocks[block]:
            self.board.fault[env] = FINE
            wrong |= self._begin(env)
        return wrong

    def step(self, block: int) -> dict[str, str]:
        """Play one step; where an episode ends, begin the next. What broke, by environment."""
        board = self.board
        wrong: dict[str, str] = {}
        for env in self.blocks[block]:
            board.fault[env] = FINE
            if board.asleep[env]:
                self._rest(env)
                continue
            problem, kind = None, BROKE
            try:
                step = self._games[env].step({name: x[env] for name, x in board.action.items()})
                problem = problem_with(board.spec, step)
                kind = USELESS
            except Exception as error:  # an environment may raise anything
                problem, kind = told(error), USELESS if isinstance(error, EnvironmentFault) else BROKE
            if problem is not None:
                wrong[str(env)] = problem
                wrong |= self._lost(env, kind)
                continue
            for name, x in step.reward.items():
                board.reward[name][env] = x
            board.terminated[env], board.truncated[env] = step.terminated, step.truncated
            if step.done:
                board.show(env, step, last=True)
                wrong |= self._begin(env)
            else:
                board.show(env, step, last=False)
        return wrong

    def _begin(self, env: int) -> dict[str, str]:
        """Begin an episode; one that breaks at once is tried again as another life, a few times."""
        wrong: dict[str, str] = {}
        for _ in range(3):
            life = int(self.board.life[env]) + 1
            self.board.life[env] = life
            try:
                step = self._games[env].reset(episode_seed(self.seed, env, life))
                problem = problem_with(self.board.spec, step)
                if problem is None:
                    self.board.show(env, step, last=False)
                    return wrong
            except Exception as error:  # an environment may raise anything
                problem = told(error)
            wrong = {str(env): problem}
            self.board.fault[env] = BROKE
            self._again(env)
        self.board.show(env, self._blank, last=False)  # nobody acts in it
        return wrong

    def _lost(self, env: int, kind: int) -> dict[str, str]:
        """Leave an episode that cannot be gone on with."""
        board = self.board
        self._leave(env)
        if kind == BROKE:
            self._again(env)
        found = self._begin(env)
        board.fault[env] = max(int(board.fault[env]), kind) if not found else BROKE
        return found

    def _rest(self, env: int) -> None:
        """Show nothing, in which nobody acts."""
        for x in self.board.reward.values():
            x[env] = 0.0
        self.board.terminated[env] = self.board.truncated[env] = False
        self.board.show(env, self._blank, last=False)

    def _leave(self, env: int) -> None:
        for x in self.board.reward.values():
            x[env] = 0.0
        self.board.terminated[env], self.board.truncated[env] = False, True
        self.board.show(env, self._blank, last=True)

    def _again(self, env: int) -> None:
        with contextlib.suppress(Exception):
            self._games[env].close()
        self._games[env] = self._make()

    def close(self) -> None:
        """Close all games, whatever they say to it."""
        for game in self._games.values():
            with contextlib.suppress(Exception):
                game.close()


def hosted(name: str, options: dict[str, Any]) -> HostEnvironment:
    """A host environment by its name."""
    game = make(name, **options)
    if not isinstance(game, HostEnvironment):
        raise UsageError(f"'{name}' is a game for the device; it needs no processes")
    return game


def episode_seed(seed: int, env: int, life: int) -> int:
    """The seed of one episode of one environment."""
    return int(np.random.SeedSequence([seed & 0xFFFFFFFF, env, life]).generate_state(1)[0]) & 0x7FFFFFFF


def told(error: Exception) -> str:
    """An exception in one line."""
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, UsageError) else f"{type(error).__name__}: {text}"[:500]
