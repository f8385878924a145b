"""Rollouts of environments in processes: while one half of them steps, the other is decided for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ludus.core.errors import NotFiniteError
from ludus.core.rollout import GroupRollout, Moment, Rollout
from ludus.core.spec import GameSpec
from ludus.runtime.host.board import FINE, USELESS
from ludus.runtime.host.pool import Client, Pool
from ludus.runtime.inference import Decided, Inference


@dataclass
class Ended:
    """Episodes that ended within one rollout, one row each."""

    length: list[np.ndarray] = field(default_factory=list)
    returns: dict[str, list[np.ndarray]] = field(default_factory=dict)  # [agent]
    profile: list[np.ndarray] = field(default_factory=list)
    seat: list[np.ndarray] = field(default_factory=list)
    skipped: int = 0


class Collector:
    """Plays a pool's environments with an inference server, rollout by rollout."""

    def __init__(self, pool: Pool, inference: Inference, length: int, *, stop_on_nan: bool, learns: tuple[str, ...]):
        self.pool, self.inference, self.length, self.stop_on_nan = pool, inference, length, stop_on_nan
        self.spec: GameSpec = pool.spec
        self.learns = learns
        envs = pool.num_envs
        self._start = np.ones(envs, bool)
        self._returns = {g.name: np.zeros((envs, g.size), np.float32) for g in self.spec.groups}
        self._steps = np.zeros(envs, np.int32)
        self._pairing: tuple[np.ndarray, np.ndarray] | None = None
        self._mine: dict[str, np.ndarray] | None = None
        self._rows = 1  # of the buffers of last moments: grows when a rollout needs more
        self.lag: dict[int, int] = {}  # decisions by how many versions their policies were behind the newest
        pool.begin()

    def collect(self, progress: float) -> tuple[Rollout, Ended, np.ndarray]:
        """`length` steps of every environment; the episodes that ended, and the policy version of every decision."""
        record = _Record(self.spec, self.length, self.pool.num_envs)
        ended = Ended(returns={g.name: [] for g in self.spec.groups})
        time = {id(c): 0 for c in self.pool.clients}
        for half in self.pool.halves:
            if ready := [c for c in half if not (c.stepping or c.landed)]:
                self._decide(record, ready, time)
        while any(t < self.length for t in time.values()):
            ready = []
            for client in self.pool.arrivals():
                self._arrived(record, ended, client, time)
                if client.behind:
                    self._catch_up(record, client, time)
                if time[id(client)] < self.length:
                    ready.append(client)
            if ready:
                self._decide(record, ready, time)
        return self._rollout(record, progress), ended, record.version

    def _decide(self, record: _Record, clients: list[Client], time: dict[int, int]) -> None:
        rows = np.concatenate([c.rows for c in clients])
        board = self.pool.board
        take = lambda tree: {name: x[rows] for name, x in tree.items()}
        moment = {name: take(board.now[name]) for name in ("observation", "legal", "acting", "seat")}
        when = np.concatenate([np.full(len(c.rows), time[id(c)]) for c in clients])
        begins = self._start[rows]
        decided = self.inference.decide(rows, begins, moment)
        state = None if self.spec.state is None else board.now["state"][rows]
        record.decision(when, rows, begins, moment, state, decided)
        if decided.pairing is not None:
            self._remember_pairing(rows, decided)
        for name, x in decided.action.items():
            board.action[name][rows] = x
        for client in clients:
            self.pool.ask(client)

    def _remember_pairing(self, rows: np.ndarray, decided: Decided) -> None:
        assert decided.pairing is not None and decided.mine is not None
        envs = self.pool.num_envs
        if self._pairing is None:
            self._pairing = (np.zeros(envs, np.int32), np.zeros(envs, np.int32))
            self._mine = {name: np.zeros((envs, *x.shape[1:]), bool) for name, x in decided.mine.items()}
        for held, x in zip(self._pairing, decided.pairing, strict=True):
            held[rows] = x
        assert self._mine is not None
        for name, x in decided.mine.items():
            self._mine[name][rows] = x

    def _arrived(self, record: _Record, ended: Ended, client: Client, time: dict[int, int]) -> None:
        """What a client's step brought."""
        if not record.decided(time[id(client)], client.rows):
            return  # the first moment of all: nothing was done to bring it
        board, rows, t = self.pool.board, np.asarray(client.rows), time[id(client)]
        fault = board.fault[rows]
        if self.stop_on_nan and (fault == USELESS).any():
            row = int(rows[(fault == USELESS).argmax()])
            raise NotFiniteError(
                f"{self.pool.faults.messages[-1]} of {self.spec.name} (environment {row}, step {t} of its rollout); "
                f"training stopped, the last good checkpoint is kept (--on-nan skip cuts such episodes and goes on)"
            )
        terminated, truncated = board.terminated[rows], board.truncated[rows]
        done = terminated | truncated
        record.outcome(t, rows, board, terminated, truncated, self._mine)
        self._steps[rows] += 1
        for name, x in self._returns.items():
            x[rows] += board.reward[name][rows]
        if done.any():
            over = rows[done]
            whole = over[board.fault[over] == FINE]
            ended.skipped += len(over) - len(whole)
            ended.length.append(self._steps[whole].copy())
            for name, x in self._returns.items():
                ended.returns[name].append(x[whole].copy())
                x[over] = 0.0
            if self._pairing is not None:
                ended.profile.append(self._pairing[0][whole].copy())
                ended.seat.append(self._pairing[1][whole].copy())
            self._steps[over] = 0
        self._start[rows] = done
        time[id(client)] += 1

    def _catch_up(self, record: _Record, client: Client, time: dict[int, int]) -> None:
        """Let environments whose process died go on where the others are: in what they missed nobody acts.

        Else all would wait for them at the end of the rollout, as long as it took to replace each process that died.
        """
        client.behind = False
        here = time[id(client)]
        if not here:
            return  # it died before it had shown anything
        others = [time[id(c)] for c in self.pool.clients if c.worker != client.worker and not c.late]
        there = max(here, min(others, default=here))
        record.rest(here, there, client.rows)
        time[id(client)] = there
        self.pool.faults.missed += (1 + there - here) * len(client.rows)  # what was decided when it died, too

    def _rollout(self, record: _Record, progress: float) -> Rollout:
        board, spec = self.pool.board, self.spec
        rows = max([1, *record.cuts.values()])
        while self._rows < rows:
            self._rows *= 2
        last_time, last = record.last(self._rows) if spec.truncates else (None, None)
        groups = {}
        for name in self.learns:
            mine = None if self._mine is None else self._mine[name]
            after = {field: x[name].copy() for field, x in board.now.items() if field != "state" and name in x}
            if mine is not None:
                after["acting"] &= mine
            state = None if spec.state is None else jnp.array(board.now["state"])
            groups[name] = GroupRollout(
                observation=jnp.asarray(record.observation[name]),
                legal=_array(record.legal.get(name)),
                acting=jnp.asarray(record.acting[name]),
                seat=_array(record.seat.get(name)),
                action=jnp.asarray(record.action[name]),
                log_prob=jnp.asarray(record.log_prob[name]),
                reward=jnp.asarray(record.reward[name]),
                memory=record.memory_of(name),
                next=_moment(after, state),
                last=None if last is None else _moment(last[name], _array(last[name].get("state"))),
                extras=jax.tree.map(jnp.asarray, record.extras.get(name, {})),
            )
        return Rollout(
            groups=groups,
            state=_array(record.state),
            start=jnp.asarray(record.start),
            terminated=jnp.asarray(record.terminated),
            truncated=jnp.asarray(record.truncated),
            last_time=_array(last_time),
            progress=jnp.asarray(progress, jnp.float32),
        )


def _array(x: Any) -> Array | None:
    return None if x is None else jnp.asarray(x)


def _moment(fields: dict[str, Any], state: Array | None) -> Moment:
    legal, seat = _array(fields.get("legal")), _array(fields.get("seat"))
    return Moment(jnp.asarray(fields["observation"]), legal, jnp.asarray(fields["acting"]), seat, state)


class _Record:
    """A rollout while it is written: arrays `[time, env, ...]`."""

    def __init__(self, spec: GameSpec, length: int, envs: int):
        self.spec, self.length, self.envs = spec, length, envs
        lead = (length, envs)
        empty = lambda shape, kind: np.zeros((*lead, *shape), kind)
        groups = spec.groups
        self.observation = {g.name: empty((g.slots, *g.observation.shape), np.float32) for g in groups}
        self.legal = {g.name: empty((g.slots, g.action.n), bool) for g in groups if g.masked}  # type: ignore[union-attr]
        self.acting = {g.name: empty((g.size,), bool) for g in groups}
        self.seat = {g.name: empty((g.slots,), np.int32) for g in groups if g.slots < g.size}
        self.reward = {g.name: empty((g.size,), np.float32) for g in groups}
        self.action: dict[str, np.ndarray] = {}
        self.log_prob: dict[str, np.ndarray] = {}
        self.extras: dict[str, dict[str, np.ndarray]] = {}
        self.state = None if spec.state is None else empty(spec.state.shape, np.float32)
        self.start, self.terminated, self.truncated = (empty((), bool) for _ in range(3))
        self.version = np.full(lead, -1, np.int64)
        self.cuts: dict[int, int] = {}  # truncations of each environment so far
        self._last: list[tuple[int, int, int, dict[str, dict[str, np.ndarray]]]] = []
        self._memory: list[tuple[np.ndarray, dict[str, Any]]] = []

    def decided(self, time: int, rows: list[int]) -> bool:
        """Whether these environments' step was decided in this rollout."""
        return time < self.length and bool((self.version[time, rows] >= 0).all())

    def decision(
        self, when: np.ndarray, rows: np.ndarray, begins: np.ndarray, moment: Any, state: Any, decided: Decided
    ) -> None:
        """What was seen and what was done about it."""
        at = (when, rows)
        for name in self.observation:
            self.observation[name][at] = moment["observation"][name]
            acting = moment["acting"][name]
            self.acting[name][at] = acting if decided.mine is None else acting & decided.mine[name]
            for held, new in ((self.action, decided.action), (self.log_prob, decided.log_prob)):
                _put(held, name, self.length, self.envs, at, new[name])
            for extra, x in decided.extras[name].items():
                _put(self.extras.setdefault(name, {}), extra, self.length, self.envs, at, x)
        for name, x in self.legal.items():
            x[at] = moment["legal"][name]
        for name, x in self.seat.items():
            x[at] = moment["seat"][name]
        if self.state is not None:
            self.state[at] = state
        self.start[at] = begins
        self.version[at] = decided.version
        first = when == 0
        if first.any() and jax.tree.leaves(decided.before):
            self._memory.append((rows[first], jax.tree.map(lambda x: np.asarray(x)[first], decided.before)))

    def rest(self, begin: int, end: int, rows: list[int]) -> None:
        """Nobody acts from one step until another; what was written there at first says the rest."""
        at = (slice(begin, end), rows)
        self.start[at] = True
        for x in self.legal.values():
            x[at] = True

    def outcome(
        self,
        time: int,
        rows: np.ndarray,
        board: Any,
        terminated: np.ndarray,
        truncated: np.ndarray,
        mine: dict[str, np.ndarray] | None,
    ) -> None:
        """What came of it; `mine` says which agents the learner plays."""
        for name, x in self.reward.items():
            x[time, rows] = board.reward[name][rows]
        self.terminated[time, rows], self.truncated[time, rows] = terminated, truncated
        for row in rows[truncated & ~terminated]:
            k = self.cuts.get(int(row), 0)
            self.cuts[int(row)] = k + 1
            seen: dict[str, dict[str, np.ndarray]] = {}
            for g in self.spec.groups:
                own = {kind: x[g.name][row].copy() for kind, x in board.end.items() if kind != "state" and g.name in x}
                if board.end["state"] is not None:
                    own["state"] = board.end["state"][row].copy()
                if mine is not None:
                    own["acting"] &= mine[g.name][row]
                seen[g.name] = own
            self._last.append((k, int(row), time, seen))

    def last(self, rows: int) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
        """Buffers of true last moments by group and field, and to which steps they belong."""
        times = np.full((rows, self.envs), self.length, np.int32)
        buffers: dict[str, dict[str, np.ndarray]] = {}
        for g in self.spec.groups:
            like = {"observation": self.observation[g.name], "acting": self.acting[g.name]}
            like |= {kind: x[g.name] for kind, x in (("legal", self.legal), ("seat", self.seat)) if g.name in x}
            if self.state is not None:
                like["state"] = self.state
            buffers[g.name] = {kind: np.zeros((rows, *x.shape[1:]), x.dtype) for kind, x in like.items()}
        for k, row, time, seen in self._last:
            times[k, row] = time
            for name, fields in seen.items():
                for kind, x in fields.items():
                    buffers[name][kind][k, row] = x
        return times, buffers

    def memory_of(self, name: str) -> Any:
        """The policy's memories before the first step."""
        if not self._memory:
            return ()
        order = np.argsort(np.concatenate([rows for rows, _ in self._memory]))
        parts = [before[name] for _, before in self._memory]
        return jax.tree.map(lambda *xs: jnp.asarray(np.concatenate(xs)[order]), *parts)


def _put(held: dict[str, np.ndarray], name: str, length: int, envs: int, at: Any, x: np.ndarray) -> None:
    if name not in held:
        held[name] = np.zeros((length, envs, *x.shape[1:]), x.dtype)
    held[name][at] = x
