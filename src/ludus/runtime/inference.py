"""The inference server's heart: decisions for whatever environments ask, in one batch of a few compiled sizes.

It keeps, for each environment, what a policy must remember: its key, its recurrent memory, and who plays whom. How
requests come and answers go is not its affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from ludus.core.game import TimeStep
from ludus.core.policy import Memory
from ludus.core.spec import GameSpec
from ludus.runtime.cast import Pairing
from ludus.runtime.rollout import Policies, fresh_where, players
from ludus.runtime.setup import compiler_options

SMALLEST = 8  # rows of the smallest compiled batch


class Table(eqx.Module):
    """What is kept of every environment; arrays lead with it."""

    key: Key[Array, " row"]
    memory: dict[str, Memory]
    pairing: Pairing | None


@dataclass
class Decided:
    """Answers to one batch, on the host; arrays lead with its rows."""

    action: dict[str, np.ndarray]
    log_prob: dict[str, np.ndarray]
    extras: dict[str, dict[str, np.ndarray]]
    before: dict[str, Memory]  # memories that the decisions were made with; on the device
    mine: dict[str, np.ndarray] | None  # which agents the learner plays
    pairing: tuple[np.ndarray, np.ndarray] | None  # profile and seat of each row
    version: int  # of the policies


class Inference:
    """Decides for up to `rows` environments with the policies last published."""

    def __init__(self, spec: GameSpec, rows: int, *, explore: bool = True):
        self.spec, self.rows, self.explore = spec, rows, explore
        self.version = -1
        self.batches = self.decisions = 0
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self._leaves: list[Any] = []
        self._structure: Any = None
        self._table: Table | None = None

    def publish(self, policies: Policies, version: int) -> None:
        """Decide with these from now on; episodes that run keep their memories."""
        leaves, self._structure = jax.tree.flatten(policies)
        self._leaves = [x.addressable_data(0) if isinstance(x, jax.Array) else x for x in leaves]  # one core decides
        self.version = version

    @property
    def keys(self) -> Key[Array, " row"]:
        """What each row will draw from next."""
        assert self._table is not None
        return self._table.key

    def begin(self, keys: Key[Array, " row"], pairing: Pairing | None = None) -> None:
        """Forget every environment. Row r draws from `keys[r]`."""
        policies = jax.tree.unflatten(self._structure, self._leaves)
        cast = players(policies)
        memory = {g.name: cast.memory(g, self.rows) for g in self.spec.groups}
        own = cast.begin(jnp.arange(self.rows, dtype=jnp.int32)) if pairing is None else pairing
        self._table = Table(jnp.copy(keys), memory, own)

    def rekey(self, first: int, keys: Key[Array, " some"]) -> None:
        """Let the rows from `first` on draw from these keys."""
        assert self._table is not None
        table = self._table
        new = table.key.at[first : first + keys.shape[0]].set(keys)
        self._table = Table(new, table.memory, table.pairing)

    def decide(self, rows: np.ndarray, begins: np.ndarray, moment: dict[str, Any]) -> Decided:
        """Decisions of all groups. `rows` are environments, `begins` whether their episode begins, and `moment` has
        the fields of a `TimeStep` that decisions need, as arrays that lead with the batch."""
        count = len(rows)
        size = min(max(SMALLEST, 1 << (count - 1).bit_length()), max(self.rows, count))
        pad = lambda x: x if len(x) == size else np.concatenate([x, np.zeros((size - count, *x.shape[1:]), x.dtype)])
        index = np.full(size, self.rows, np.int32)
        index[:count] = rows
        key = (size, self._structure)
        if key not in self._compiled:
            self._compiled[key] = self._compile(self._structure)
        out = self._compiled[key](self._leaves, self._table, index, pad(np.asarray(begins)), jax.tree.map(pad, moment))
        self._table, decisions, before, mine, pairing = out
        self.batches += 1
        self.decisions += count
        host = lambda tree: jax.tree.map(lambda x: np.asarray(x)[:count], tree)
        return Decided(
            action=host({name: d.action for name, d in decisions.items()}),
            log_prob=host({name: d.log_prob for name, d in decisions.items()}),
            extras={name: host(d.extras) for name, d in decisions.items()},
            before=jax.tree.map(lambda x: x[:count], before),
            mine=None if mine is None else host(mine),
            pairing=None if pairing is None else (host(pairing.profile), host(pairing.seat)),
            version=self.version,
        )

    def _compile(self, structure: Any) -> Callable[..., Any]:
        decide = lambda leaves, table, index, begins, moment: _decide(
            self.spec, self.explore, jax.tree.unflatten(structure, leaves), table, index, begins, moment
        )
        return jax.jit(decide, donate_argnums=1, compiler_options=compiler_options())


def _decide(
    spec: GameSpec,
    explore: bool,
    policies: Policies,
    table: Table,
    index: Int[Array, " batch"],
    begins: Bool[Array, " batch"],
    moment: dict[str, Any],
) -> tuple[Any, ...]:
    cast = players(policies)
    kept = jnp.minimum(index, table.key.shape[0] - 1)
    own: Table = jax.tree.map(lambda x: x[kept], table)
    keys = jax.vmap(lambda k: jax.random.split(k, 3 + len(spec.groups)))(own.key)
    pairing: Any = cast.draw(begins, own.pairing, keys[:, 2])  # type: ignore[arg-type]
    memory = {g.name: fresh_where(begins, cast, g, own.memory[g.name]) for g in spec.groups}
    envs = index.shape[0]
    over = jnp.zeros(envs, bool)
    step = TimeStep(
        observation=moment["observation"],
        legal=moment["legal"],
        acting=moment["acting"],
        reward={},
        terminated=over,
        truncated=over,
        state=None,
        seat=moment["seat"],
    )
    decisions = {
        g.name: cast.decide(g, step, memory[g.name], keys[:, 3 + i], pairing, explore)
        for i, g in enumerate(spec.groups)
    }
    new = Table(keys[:, 0], {name: d.memory for name, d in decisions.items()}, pairing)
    table = jax.tree.map(lambda x, y: x.at[index].set(y, mode="drop"), table, new)
    before = {g.name: cast.own_memory(own.memory[g.name]) for g in spec.groups if g.name in cast.own}
    mine = None if pairing is None else {g.name: cast.mine(g, pairing) for g in spec.groups}  # type: ignore[misc]
    stripped = {name: type(d)(d.action, d.log_prob, (), d.extras) for name, d in decisions.items()}
    return table, stripped, before, mine, pairing
