"""A game tree as its players see it: sequences of their own moves, and payoffs of joint sequences.

A player's *sequence* is what led him somewhere: an information set and an action there, or nothing yet. A *plan*
(realisation plan: von Stengel 1996) gives each sequence the product of the player's own probabilities along it. With
plans, expected payoffs are multilinear, and what a player can do about the others' plans is one number for each of his
sequences: the gradient.

Tables are `[infoset, slot]`: slot k is the k-th legal action. A player's information sets are ordered by *level*, the
number of own moves before. Tables and plans may have further axes behind, a batch: many strategies are then worked on
at once, which costs much less than one after the other (and, as look-ups then fetch whole rows, than `vmap`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ludus.core.errors import UsageError
from ludus.core.tree import CHANCE, GameTree
from ludus.equilibria.gather_sum import GatherSum


class Side(eqx.Module):
    """One player's decisions."""

    legal: Bool[Array, "infoset slot"]
    parents: tuple[Int[Array, "_"], ...]  # by level: the sequence before, as an index into the level above
    children: tuple[GatherSum, ...]  # by level: values of information sets, added up by that sequence
    others: tuple[Int[Array, "_ _"], ...]  # the other players' sequences at outcomes, by own sequence
    payoff: Float[Array, "row width"]  # the player's own payoff there
    outcomes: GatherSum  # whose first round gave the rows of `others` and `payoff`
    infosets: Int[Array, " infoset"]  # which of the tree's these are
    levels: tuple[tuple[int, int], ...] = eqx.field(static=True)  # where each begins and ends

    @property
    def shape(self) -> tuple[int, int]:
        """Information sets, and the most legal actions at any."""
        return self.legal.shape[0], self.legal.shape[1]

    def uniform(self) -> Float[Array, "infoset slot"]:
        """All legal actions alike."""
        dtype = self.payoff.dtype
        return self.legal.astype(dtype) / self.legal.sum(1, keepdims=True).astype(dtype)

    def plan(self, strategy: Float[Array, "infoset slot *batch"]) -> Float[Array, "sequence *batch"]:
        """The plan of a behavioural strategy; the empty sequence comes last."""
        batch = strategy.shape[2:]
        one = jnp.ones((1, *batch), strategy.dtype)
        above, levels = one, []
        for (begin, end), parent in zip(self.levels, self.parents, strict=True):
            above = (above[parent][:, None] * strategy[begin:end]).reshape(-1, *batch)
            levels.append(above)
        return jnp.concatenate([*levels, one])

    def reach(self, plan: Float[Array, " sequence"]) -> Float[Array, " infoset"]:
        """The player's own contribution to reaching each information set."""
        width = self.shape[1]
        parts = [jnp.ones(end - begin, plan.dtype) for begin, end in self.levels[:1]]
        for (above, _), (below, _), parent in zip(self.levels, self.levels[1:], self.parents[1:], strict=False):
            parts.append(plan[above * width : below * width][parent])
        return jnp.concatenate([*parts, jnp.zeros(0, plan.dtype)])

    def strategy(self, plan: Float[Array, "sequence *batch"]) -> Float[Array, "infoset slot *batch"]:
        """The behavioural strategy of a plan; uniform where the plan never comes."""
        table = plan[:-1].reshape(*self.shape, *plan.shape[1:])
        total = table.sum(1, keepdims=True)
        return jnp.where(total > 0, table / jnp.where(total > 0, total, 1), behind(self.uniform(), table))

    def gradient(self, plans: list[Float[Array, "_ *batch"]]) -> Float[Array, "sequence *batch"]:
        """What each sequence earns by itself while the others (in order, without this player) follow their plans."""
        value = self.payoff
        for index, plan in zip(self.others, plans, strict=True):
            met = plan[index]
            value = behind(value, met) * met
        return self.outcomes.rest(value.sum(1))


@dataclass(frozen=True)
class Choices:
    """Values of one player's actions, given the gradient and a rule of what an information set is worth."""

    action: Float[Array, "infoset slot *batch"]
    infoset: Float[Array, "infoset *batch"]
    game: Float[Array, "*batch"]


class SequenceForm(eqx.Module):
    """All players' sides of one game."""

    sides: tuple[Side, ...]
    sequence: Int[Array, "outcome player"]  # every joint sequence that earns something
    payoff: Float[Array, "outcome player"]
    zero_sum: bool = eqx.field(static=True)
    name: str = eqx.field(static=True)

    @property
    def players(self) -> int:
        """The number of players."""
        return len(self.sides)

    def plans(self, strategies: Strategies) -> list[Array]:
        """One plan each."""
        return [side.plan(s) for side, s in zip(self.sides, strategies, strict=True)]

    def uniform(self) -> Strategies:
        """Everybody plays all legal actions alike."""
        return tuple(side.uniform() for side in self.sides)

    def gradient(self, player: int, plans: list[Array]) -> Float[Array, "sequence *batch"]:
        """Of one player."""
        return self.sides[player].gradient([p for i, p in enumerate(plans) if i != player])


Strategies = tuple[Array, ...]  # one table `[infoset, slot, *batch]` for each player


def behind(x: Array, like: Array) -> Array:
    """Give `x` the batch axes that `like` has behind."""
    return x.reshape(*x.shape, *[1] * (like.ndim - x.ndim))


def values(side: Side, gradient: Float[Array, "sequence *batch"], worth) -> Choices:  # type: ignore[no-untyped-def]
    """From the last level up: what actions and information sets are worth.

    `worth(values, begin, end)` says what the information sets of one level are worth, given their actions' values.
    """
    width = side.shape[1]
    batch = gradient.shape[1:]
    table = gradient[:-1].reshape(*side.shape, *batch)
    actions, infosets = [], []
    below: Array | None = None
    for (begin, end), children in zip(reversed(side.levels), reversed(side.children), strict=True):
        q = table[begin:end]
        if below is not None:
            q = q + below.reshape(end - begin, width, *batch)
        v = worth(q, begin, end)
        actions.append(q)
        infosets.append(v)
        below = children(v)
    total = gradient[-1] if below is None else gradient[-1] + below[0]
    return Choices(
        jnp.concatenate(actions[::-1]) if actions else table,
        jnp.concatenate(infosets[::-1]) if infosets else jnp.zeros((0, *batch), gradient.dtype),
        total,
    )


def sequence_form(tree: GameTree, dtype: type = np.float64) -> SequenceForm:
    """The sequence form of a game. Raises `UsageError` where a player forgets what he knew or did."""
    tree.check()
    slot, depth = tree.slot(), tree.depth()
    order = np.argsort(depth, kind="stable")
    actions = tree.actions()
    widths = [max(1, int((actions[tree.infoset_player == i] >= 0).sum(1).max(initial=1))) for i in range(tree.players)]
    # Each node's last own sequence, by the tree's information sets: infoset · slots + slot, or −1.
    slots = actions.shape[1]
    last = np.full((tree.num_nodes, tree.players), -1, np.int64)
    chance = np.ones(tree.num_nodes)
    for d in range(1, int(depth.max(initial=0)) + 1):
        at = order[depth[order] == d]
        up = tree.parent[at]
        last[at] = last[up]
        mover = tree.player[up]
        moved = mover >= 0
        last[at[moved], mover[moved]] = tree.infoset[up[moved]].astype(np.int64) * slots + slot[at[moved]]
        chance[at] = chance[up] * np.where(mover == CHANCE, tree.chance[at], 1.0)
    before = np.full(tree.num_infosets, -2, np.int64)
    decision = tree.player >= 0
    own = last[np.flatnonzero(decision), tree.player[decision]]
    before[tree.infoset[decision]] = own
    forgotten = before[tree.infoset[decision]] != own
    if forgotten.any():
        where = int(tree.infoset[decision][np.argmax(forgotten)])
        name = tree.infoset_names[where] if tree.infoset_names else str(where)
        raise UsageError(f"{tree.name} has a player who forgets his own past at '{name}'; solvers need perfect recall")
    arranged = [_arrange(tree, i, before, slots) for i in range(tree.players)]
    # Outcomes: terminals that share all players' sequences are one.
    ends = np.flatnonzero(~decision & (tree.player != CHANCE))
    number = np.zeros((len(ends), tree.players), np.int64)
    for i, (rank, _, _) in enumerate(arranged):
        s = last[ends, i]
        rows = int((tree.infoset_player == i).sum())
        number[:, i] = np.where(s < 0, rows * widths[i], rank[np.maximum(s, 0) // slots] * widths[i] + s % slots)
    joint, member = np.unique(number, axis=0, return_inverse=True)
    member = member.reshape(-1)
    payoff = np.zeros((len(joint), tree.players))
    np.add.at(payoff, member, tree.utility[ends] * chance[ends, None])
    earns = (payoff != 0).any(1)
    joint, payoff = joint[earns], payoff[earns]
    sides = tuple(_side(tree, i, *arranged[i], widths[i], joint, payoff, dtype) for i in range(tree.players))
    return SequenceForm(
        sides, jnp.asarray(joint, jnp.int32), jnp.asarray(payoff, dtype), zero_sum=tree.zero_sum, name=tree.name
    )


def _arrange(tree: GameTree, player: int, before: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A player's information sets by level: the rank of each of the tree's, their order, and the levels."""
    mine = np.flatnonzero(tree.infoset_player == player)
    level = np.full(tree.num_infosets, -1)
    waiting, depth = mine, 0
    while waiting.size:
        above = np.where(before[waiting] < 0, -1, before[waiting] // slots)
        ready = (above < 0) if depth == 0 else (level[np.maximum(above, 0)] == depth - 1) & (above >= 0)
        level[waiting[ready]] = depth
        waiting, depth = waiting[~ready], depth + 1
    rank = np.full(tree.num_infosets, -1)
    order: list[int] = []
    for d in range(int(level[mine].max(initial=-1)) + 1):
        at = mine[level[mine] == d]
        parent = before[at]
        key = np.where(parent < 0, -1, rank[np.maximum(parent, 0) // slots] * slots + parent % slots)
        for infoset in at[np.argsort(key, kind="stable")]:
            rank[infoset] = len(order)
            order.append(int(infoset))
    sequence_before = np.array([before[k] for k in order], np.int64)
    levels = np.array([level[k] for k in order], np.int64)
    return rank, np.stack([np.array(order, np.int64), sequence_before], 0) if order else np.zeros((2, 0), int), levels


def _side(
    tree: GameTree,
    player: int,
    rank: np.ndarray,
    order: np.ndarray,
    level: np.ndarray,
    width: int,
    joint: np.ndarray,
    payoff: np.ndarray,
    dtype: type,
) -> Side:
    infosets, before = order
    slots = tree.actions().shape[1]
    edges = [int(x) for x in np.searchsorted(level, np.arange(int(level.max(initial=-1)) + 2))]
    levels = tuple(itertools.pairwise(edges))
    parents, children = [], []
    for d, (begin, end) in enumerate(levels):
        if d == 0:
            index, above = np.zeros(end - begin, np.int64), 1
        else:
            first, stop = levels[d - 1]
            index = (rank[before[begin:end] // slots] - first) * width + before[begin:end] % slots
            above = (stop - first) * width
        parents.append(jnp.asarray(index, jnp.int32))
        children.append(GatherSum.of(index, above))
    sequences = len(infosets) * width + 1
    outcomes = GatherSum.of(joint[:, player], sequences)
    rows = np.asarray(outcomes.rounds[0])
    padded = np.concatenate([joint, np.zeros((1, tree.players), np.int64)])
    paid = np.concatenate([payoff[:, player], np.zeros(1)])
    legal = np.arange(width)[None] < tree.legal[infosets].sum(1)[:, None]
    return Side(
        legal=jnp.asarray(legal.reshape(len(infosets), width)),
        parents=tuple(parents),
        children=tuple(children),
        others=tuple(jnp.asarray(padded[rows, j], jnp.int32) for j in range(tree.players) if j != player),
        payoff=jnp.asarray(paid[rows], dtype),
        outcomes=outcomes,
        levels=levels,
        infosets=jnp.asarray(infosets, jnp.int32),
    )
