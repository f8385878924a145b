"""Monte-Carlo counterfactual regret minimisation on the tree itself (Lanctot et al. 2009).

External sampling expands, level by level, every action of the player who updates and one sampled action of everybody
else; outcome sampling follows one episode. Both run a batch of independent samples an iteration, for every player in
turn, and cost what the samples cost, not the tree.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from ludus.core.tree import CHANCE, GameTree


class TreeArrays(eqx.Module):
    """What sampling reads of a tree."""

    player: Int[Array, " node"]
    infoset: Int[Array, " node"]
    first_child: Int[Array, " node"]
    num_children: Int[Array, " node"]
    cumulative: Float[Array, " node"]  # of chance edges: the probability of a smaller or equal outcome
    utility: Float[Array, "node player"]
    legal: Bool[Array, "infoset slot"]
    widths: tuple[tuple[int, ...], ...] = eqx.field(static=True)  # for each player, the most nodes at each depth
    most: int = eqx.field(static=True)  # children of any node
    players: int = eqx.field(static=True)

    @staticmethod
    def of(tree: GameTree, dtype: type = np.float64) -> TreeArrays:
        """From a game's tree."""
        slot = tree.slot()
        cumulative = np.ones(tree.num_nodes)
        edges = np.flatnonzero(np.append(False, tree.player[tree.parent[1:]] == CHANCE))
        running = np.cumsum(tree.chance[edges])
        first = np.maximum.accumulate(np.where(slot[edges] == 0, np.arange(len(edges)), 0))
        before = np.concatenate([[0.0], running])[first] if len(edges) else running
        cumulative[edges] = running - before
        widths = tuple(_widths(tree, i) for i in range(tree.players))
        whole = lambda x: jnp.asarray(x, jnp.int32)
        return TreeArrays(
            player=whole(tree.player),
            infoset=whole(tree.infoset),
            first_child=whole(tree.first_child),
            num_children=whole(tree.num_children),
            cumulative=jnp.asarray(cumulative, dtype),
            utility=jnp.asarray(tree.utility, dtype),
            legal=jnp.asarray(tree.actions() >= 0),
            widths=widths,
            most=int(tree.num_children.max(initial=1)),
            players=tree.players,
        )


def _widths(tree: GameTree, player: int) -> tuple[int, ...]:
    """The most nodes of each depth that one external sample can meet."""
    # Nodes k levels below each node that a sample may meet; one more level each time, read off at the root.
    met, widths = np.ones(tree.num_nodes, np.int64), []
    for _ in range(int(tree.depth().max(initial=0)) + 1):
        widths.append(int(met[0]))
        total, largest = np.zeros_like(met), np.zeros_like(met)
        np.add.at(total, tree.parent[1:], met[1:])
        np.maximum.at(largest, tree.parent[1:], met[1:])
        met = np.where(tree.player == player, total, largest)
    return tuple(widths)


class MCCFRState(eqx.Module):
    """Tables of the whole tree's information sets."""

    regret: Float[Array, "infoset slot"]
    total: Float[Array, "infoset slot"]  # sampled weights of the average strategy
    key: Key[Array, ""]
    iteration: Int[Array, ""]


@dataclass(frozen=True)
class MCCFR:
    """One iteration samples `batch` times for each player, all with the strategies of before."""

    sampling: str = "external"
    """`external` or `outcome`."""
    batch: int = 1
    """Samples of one update."""
    explore: float = 0.6
    """Outcome sampling: how much of the updating player's sampling is uniform."""

    def init(self, tree: TreeArrays, key: Key[Array, ""]) -> MCCFRState:
        """No regrets."""
        zeros = lambda: jnp.zeros(tree.legal.shape, tree.utility.dtype)
        return MCCFRState(zeros(), zeros(), key, jnp.zeros((), jnp.int32))

    def step(self, tree: TreeArrays, state: MCCFRState) -> MCCFRState:
        """One iteration."""
        regret, total = state.regret, state.total
        key, *keys = jax.random.split(state.key, 1 + tree.players)
        sample = self._external if self.sampling == "external" else self._outcome
        for i in range(tree.players):
            strategy = _match(tree, regret)
            samples = jax.random.split(keys[i], self.batch)
            gains, weights = jax.vmap(lambda k, i=i, s=strategy: sample(tree, s, i, k))(samples)
            for gain, weight in zip(gains, weights, strict=True):
                regret = regret.at[gain[0].reshape(-1)].add(_rows(gain[1]), mode="drop")
                total = total.at[weight[0].reshape(-1)].add(_rows(weight[1]), mode="drop")
        return MCCFRState(regret, total, key, state.iteration + 1)

    def average(self, tree: TreeArrays, state: MCCFRState) -> Float[Array, "infoset slot"]:
        """The average strategy of every information set; uniform where none was ever sampled."""
        weight = state.total.sum(1, keepdims=True)
        return jnp.where(weight > 0, state.total / jnp.where(weight > 0, weight, 1), _uniform(tree))

    def _external(self, tree: TreeArrays, strategy: Array, player: int, key: Key[Array, ""]) -> tuple[list, list]:
        """Expand downwards, then add up values upwards."""
        none = tree.player.shape[0]
        widths = tree.widths[player]
        nodes = jnp.zeros(1, jnp.int32)
        levels = []
        for depth, width in enumerate(widths):
            exists = nodes < none
            at = jnp.minimum(nodes, none - 1)
            mover = jnp.where(exists, tree.player[at], -2)
            row = jnp.where(mover >= 0, tree.infoset[at], 0)
            own = mover == player
            if depth + 1 < len(widths):
                counts = jnp.where(own, tree.num_children[at], jnp.where(exists & (mover != -2), 1, 0))
                chosen = _choose(tree, strategy, at, mover, row, jax.random.fold_in(key, depth))
                stop = jnp.cumsum(counts)
                place = jnp.arange(widths[depth + 1])
                parent = jnp.minimum(jnp.searchsorted(stop, place, side="right"), width - 1)
                within = place - (stop - counts)[parent]
                child = tree.first_child[at[parent]] + jnp.where(own[parent], within, chosen[parent])
                below = jnp.where(place < stop[-1], child, none)
            else:
                parent = within = below = jnp.zeros(0, jnp.int32)
            levels.append((at, exists, mover, row, own, parent, within))
            nodes = below
        gains, weights = [], []
        value = jnp.zeros(0, strategy.dtype)
        lost = tree.legal.shape[0]
        for at, exists, mover, row, own, parent, within in reversed(levels):
            worth = jnp.zeros((at.shape[0], tree.legal.shape[1]), strategy.dtype)
            if value.shape[0]:
                slot = jnp.where(own[parent], within, 0)
                worth = worth.at[parent, slot].add(value)
            mixed = jnp.where(own, (worth * strategy[row]).sum(1), worth[:, 0])
            value = jnp.where(exists, jnp.where(mover == -2, tree.utility[at, player], mixed), 0)
            advantage = jnp.where(tree.legal[row], worth - mixed[:, None], 0)
            gains.append((jnp.where(own, row, lost), advantage))
            answering = exists & (mover == (player + 1) % tree.players)
            weights.append((jnp.where(answering, row, lost), strategy[row]))
        return gains, weights

    def _outcome(self, tree: TreeArrays, strategy: Array, player: int, key: Key[Array, ""]) -> tuple[list, list]:
        """Follow one episode, then weigh its utility by how likely it was sampled."""
        depth = len(tree.widths[player])
        uniform = _uniform(tree)

        def down(state: tuple, k: Key[Array, ""]) -> tuple[tuple, tuple]:
            node, own_reach, other_reach, sampled = state
            mover = tree.player[node]
            row = jnp.where(mover >= 0, tree.infoset[node], 0)
            own = mover == player
            policy = strategy[row]
            behaviour = jnp.where(own, self.explore * uniform[row] + (1 - self.explore) * policy, policy)
            slot = _draw(behaviour, jax.random.uniform(k, dtype=behaviour.dtype))
            chance = _chance(tree, node, jax.random.uniform(k, dtype=behaviour.dtype))
            child = tree.first_child[node] + jnp.where(mover >= 0, slot, chance)
            record = (row, mover, slot, policy, own_reach, other_reach, sampled, node)
            p, q = policy[slot], behaviour[slot]
            new = (
                jnp.where(mover == -2, node, child).astype(jnp.int32),
                jnp.where(own, own_reach * p, own_reach),
                # Chance is sampled as it plays: it cancels and is left out of both.
                jnp.where(own | (mover < 0), other_reach, other_reach * p),
                jnp.where(mover >= 0, sampled * q, sampled),
            )
            return new, record

        one = jnp.ones((), strategy.dtype)
        begin = (jnp.zeros((), jnp.int32), one, one, one)
        (node, _, _, sampled), records = jax.lax.scan(down, begin, jax.random.split(key, depth))
        row, mover, slot, policy, own_reach, other_reach, sampled_before, _ = records
        utility = tree.utility[node, player] / sampled
        taken = jnp.take_along_axis(policy, slot[:, None], 1)[:, 0]
        # tail[t]: the updating player's probability of the rest of the episode after step t.
        factor = jnp.where(mover == player, taken, 1)
        others = jnp.where((mover >= 0) & (mover != player), taken, 1)
        tail = jnp.cumprod((factor * others)[::-1])[::-1]
        after = jnp.concatenate([tail[1:], one[None]])
        value = utility * other_reach * after  # of the taken action, by the others' reach of the node
        hot = jax.nn.one_hot(slot, policy.shape[1], dtype=policy.dtype)
        advantage = hot * value[:, None] - (value * taken)[:, None]
        lost = tree.legal.shape[0]
        own = mover == player
        advantage = jnp.where(tree.legal[row], advantage, 0)
        weight = policy * (own_reach / sampled_before)[:, None]
        return [(jnp.where(own, row, lost), advantage)], [(jnp.where(own, row, lost), weight)]


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _uniform(tree: TreeArrays) -> Array:
    dtype = tree.utility.dtype
    return tree.legal.astype(dtype) / tree.legal.sum(1, keepdims=True).astype(dtype)


def _match(tree: TreeArrays, regret: Array) -> Array:
    positive = jnp.maximum(regret, 0)
    total = positive.sum(1, keepdims=True)
    return jnp.where(total > 0, positive / jnp.where(total > 0, total, 1), _uniform(tree))


def _draw(probability: Float[Array, "*batch slot"], uniform: Float[Array, "*batch"]) -> Int[Array, "*batch"]:
    """The slot that a uniform number falls on; never one of probability 0."""
    cumulative = jnp.cumsum(probability, -1)
    point = uniform * cumulative[..., -1]
    slot = (cumulative <= point[..., None]).sum(-1)
    last = probability.shape[-1] - 1 - jnp.argmax((probability > 0)[..., ::-1], -1)
    return jnp.minimum(slot, last)


def _chance(tree: TreeArrays, node: Int[Array, "*batch"], uniform: Float[Array, "*batch"]) -> Int[Array, "*batch"]:
    """Which child a chance node draws: a binary search in its cumulative probabilities."""
    first, count = tree.first_child[node], tree.num_children[node]
    low, high = jnp.zeros_like(count), jnp.maximum(count - 1, 0)
    for _ in range(max(1, int(np.ceil(np.log2(max(2, tree.most)))))):
        middle = (low + high) // 2
        above = tree.cumulative[jnp.minimum(first + middle, tree.player.shape[0] - 1)] <= uniform
        low, high = jnp.where(above, middle + 1, low), jnp.where(above, high, middle)
    return jnp.minimum(low, jnp.maximum(count - 1, 0))


def _choose(tree: TreeArrays, strategy: Array, node: Array, mover: Array, row: Array, key: Key[Array, ""]) -> Array:
    """One sampled child of every node that the others decide."""
    uniform = jax.random.uniform(key, node.shape, strategy.dtype)
    return jnp.where(mover == CHANCE, _chance(tree, node, uniform), _draw(strategy[row], uniform))
