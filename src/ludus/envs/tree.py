"""A compiled game tree as a device-native environment: a state is a node, a step is a look-up."""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ludus.core.errors import unknown
from ludus.core.game import TimeStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec, RewardKind
from ludus.core.tree import CHANCE, TERMINAL, GameTree


class _Records(eqx.Module):
    """One row for each node, information set or chance edge, so that a step gathers few rows."""

    node: Int[Array, "node field"]  # mover or TERMINAL, information set, first child, first chance edge, their number
    slot: Int[Array, "infoset action"]  # which child an action leads to; 0, the first, where illegal
    shown: Float[Array, "infoset feature"]
    legal: Array  # [infoset, action]
    utility: Float[Array, "node player"]
    target: Int[Array, "edge two"]  # the alias method: where to go, by whether the draw exceeds `limit`
    limit: Float[Array, " edge"]


class TreeGame:
    """Any compiled game. Chance is sampled on device, however many chance moves follow each other, in one draw.

    `observe` is `tensor` (the information state) or `index` (a one-hot of the information set, for tables). An
    illegal action counts as the first legal one.
    """

    def __init__(self, tree: GameTree, *, observe: Literal["tensor", "index"] = "tensor"):
        tree.check()
        if observe not in ("tensor", "index"):
            raise unknown("observation", observe, ("tensor", "index"))
        self.tree = tree
        index = observe == "index"
        shown = np.eye(tree.num_infosets, dtype=np.float32) if index else tree.observation.astype(np.float32)
        low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 1.0)
        group = GroupSpec(
            "players",
            tree.players,
            Box((shown.shape[1],), low, high),
            Discrete(tree.num_actions),
            "player",
            slots=1,
            masked=True,
            rivals=True,
            one_hot=index,
        )
        kind: RewardKind = "zero-sum" if tree.zero_sum else "general-sum"
        if tree.players > 1 and np.all(tree.utility == tree.utility[:, :1]):
            kind = "common"
        self.spec = GameSpec(f"spiel/{tree.name}", (group,), kind, turns="sequential", horizon=_longest(tree))
        self._records = _record(tree, shown)
        self._root = jnp.asarray(0, jnp.int32)

    def _draw(self, node: Int[Array, ""], key: Key[Array, ""]) -> Int[Array, ""]:
        """Where chance leads from a node; the node itself where chance does not move."""
        first, edges = self._records.node[node, 3], self._records.node[node, 4]
        if self._records.target.shape[0] == 0:
            return node
        point = jax.random.uniform(key) * edges
        which = jnp.minimum(point.astype(jnp.int32), edges - 1)
        row = jnp.maximum(first + which, 0)
        beyond = (point - which > self._records.limit[row]).astype(jnp.int32)
        return jnp.where(edges > 0, self._records.target[row, beyond], node)

    def _show(self, node: Int[Array, ""]) -> TimeStep:
        mover, infoset = self._records.node[node, 0], self._records.node[node, 1]
        seat = jnp.maximum(mover, 0)
        over = mover == TERMINAL
        return TimeStep(
            observation={"players": self._records.shown[infoset][None]},
            legal={"players": self._records.legal[infoset][None]},
            acting={"players": (jnp.arange(self.tree.players) == seat) & ~over},
            reward={"players": self._records.utility[node]},
            terminated=over,
            truncated=jnp.asarray(False),
            seat={"players": seat[None]},
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Int[Array, ""], TimeStep]:
        """Deal."""
        node = self._draw(self._root, key)
        return node, self._show(node)

    def step(
        self, key: Key[Array, ""], state: Int[Array, ""], actions: dict[str, Array]
    ) -> tuple[Int[Array, ""], TimeStep]:
        """The player to move plays, then chance."""
        record = self._records.node[state]
        child = record[2] + self._records.slot[record[1], actions["players"][0]]
        node = self._draw(jnp.where(record[0] == TERMINAL, state, child), key)
        return node, self._show(node)


def _longest(tree: GameTree) -> int:
    """The most decisions of one episode."""
    before = np.zeros(tree.num_nodes, np.int32)
    depth = tree.depth()
    for d in range(1, int(depth.max(initial=0)) + 1):
        at = np.flatnonzero(depth == d)
        up = tree.parent[at]
        before[at] = before[up] + (tree.player[up] >= 0)
    return max(1, int(before.max(initial=1)))


def _record(tree: GameTree, shown: np.ndarray) -> _Records:
    actions = tree.actions()
    slot = np.zeros((tree.num_infosets + 1, tree.num_actions), np.int32)
    row, k = np.nonzero(actions >= 0)
    slot[row, actions[row, k]] = k
    starts = np.zeros(tree.num_nodes, np.int32)
    counts = np.zeros(tree.num_nodes, np.int32)
    targets, limits, edges = [], [], 0
    chance_after_chance = (tree.player == CHANCE) & (tree.player[np.maximum(tree.parent, 0)] == CHANCE)
    chance_after_chance[0] = False
    for node in np.flatnonzero((tree.player == CHANCE) & ~chance_after_chance):
        outcomes, probability = _unfold(tree, int(node))
        target, limit = _alias(outcomes, probability)
        starts[node], counts[node] = edges, len(outcomes)
        targets.append(target)
        limits.append(limit)
        edges += len(outcomes)
    infoset = np.where(tree.infoset >= 0, tree.infoset, tree.num_infosets)  # terminals show an empty row
    table = np.stack([tree.player, infoset, tree.first_child, starts, counts], 1)
    empty = np.zeros((1, shown.shape[1]), np.float32)
    return _Records(
        node=jnp.asarray(table, jnp.int32),
        slot=jnp.asarray(slot),
        shown=jnp.asarray(np.concatenate([shown, empty])),
        legal=jnp.asarray(np.concatenate([tree.legal, np.ones((1, tree.num_actions), bool)])),
        utility=jnp.asarray(tree.utility, jnp.float32),
        target=jnp.asarray(np.concatenate(targets) if targets else np.zeros((0, 2)), jnp.int32),
        limit=jnp.asarray(np.concatenate(limits) if limits else np.zeros(0), jnp.float32),
    )


def _unfold(tree: GameTree, node: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a run of chance moves ends, and with what probabilities."""
    nodes, weight = np.array([node]), np.ones(1)
    while True:
        chance = tree.player[nodes] == CHANCE
        if not chance.any():
            return nodes, weight
        done, done_weight = nodes[~chance], weight[~chance]
        up, up_weight = nodes[chance], weight[chance]
        counts = tree.num_children[up]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        below = np.repeat(tree.first_child[up], counts) + within
        nodes = np.concatenate([done, below])
        weight = np.concatenate([done_weight, np.repeat(up_weight, counts) * tree.chance[below]])


def _alias(outcomes: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Walker's alias table: entry k keeps its own outcome up to `limit`, and gives another beyond it."""
    n = len(outcomes)
    share = probability * n / probability.sum()
    other = np.arange(n)
    limit = np.ones(n)
    small = [k for k in range(n) if share[k] < 1]
    large = [k for k in range(n) if share[k] >= 1]
    while small and large:
        k, rich = small.pop(), large[-1]
        limit[k], other[k] = share[k], rich
        share[rich] -= 1 - share[k]
        if share[rich] < 1:
            small.append(large.pop())
    return np.stack([outcomes, outcomes[other]], 1), limit
