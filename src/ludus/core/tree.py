"""The first exact description of a game: a finite tree, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ludus.core.errors import UsageError

CHANCE, TERMINAL = -1, -2


@dataclass(frozen=True, eq=False)
class GameTree:
    """A finite game of perfect recall. Nodes are ordered by depth, and a node's children lie side by side.

    The k-th child of a decision node follows the k-th legal action of its information set. Simultaneous moves stand
    one after the other: who moves later does not see what the others chose.
    """

    name: str
    players: int
    player: Int[np.ndarray, " node"]  # who moves, or CHANCE, or TERMINAL
    infoset: Int[np.ndarray, " node"]  # −1 where nobody decides
    parent: Int[np.ndarray, " node"]  # −1 at the root, which is node 0
    first_child: Int[np.ndarray, " node"]
    num_children: Int[np.ndarray, " node"]
    chance: Float[np.ndarray, " node"]  # of the edge that leads here, where chance moved, else 1
    utility: Float[np.ndarray, "node player"]  # 0 but at terminals
    infoset_player: Int[np.ndarray, " infoset"]
    legal: Bool[np.ndarray, "infoset action"]
    observation: Float[np.ndarray, "infoset feature"]  # what the mover sees there, the whole past included
    infoset_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()

    @property
    def num_nodes(self) -> int:
        """All nodes: decisions, chance and terminals."""
        return len(self.player)

    @property
    def num_infosets(self) -> int:
        """The information sets of all players."""
        return len(self.infoset_player)

    @property
    def num_actions(self) -> int:
        """The actions of the whole game; few are legal at once."""
        return int(self.legal.shape[1])

    @property
    def zero_sum(self) -> bool:
        """Whether utilities add up to 0 at every terminal."""
        return bool(np.allclose(self.utility.sum(1), 0.0))

    def actions(self) -> Int[np.ndarray, "infoset slot"]:
        """Each information set's legal actions in order, and −1 after the last."""
        most = int(self.legal.sum(1).max(initial=1))
        table = np.full((self.num_infosets, most), -1, np.int32)
        row, action = np.nonzero(self.legal)
        table[row, np.cumsum(self.legal, 1)[row, action] - 1] = action
        return table

    def slot(self) -> Int[np.ndarray, " node"]:
        """Which child of its parent a node is."""
        slot = np.arange(self.num_nodes) - self.first_child[np.maximum(self.parent, 0)]
        return np.where(self.parent < 0, 0, slot).astype(np.int32)

    def depth(self) -> Int[np.ndarray, " node"]:
        """How many moves, chance's included, lead to a node."""
        depth = np.zeros(self.num_nodes, np.int32)
        frontier = np.array([0])
        while frontier.size:
            counts = self.num_children[frontier]
            start = np.repeat(self.first_child[frontier], counts)
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            children = start + within
            depth[children] = depth[np.repeat(frontier, counts)] + 1
            frontier = children
        return depth

    def check(self) -> None:
        """Raise `UsageError` where these arrays are not a game: broken links, chance that does not add up, NaN."""
        bad = ~np.isfinite(self.utility).all(1)
        if bad.any():
            raise UsageError(f"{self.name} has a utility that is NaN or infinite at node {int(np.argmax(bad))}")
        moves = self.player != TERMINAL
        if (self.num_children[moves] < 1).any() or (self.num_children[~moves] != 0).any():
            raise UsageError(f"{self.name}: every node but terminals must have children, and terminals none")
        total = np.zeros(self.num_nodes)
        np.add.at(total, self.parent[1:], self.chance[1:])
        at = self.player == CHANCE
        if not np.allclose(total[at], 1.0) or (self.chance < 0).any():
            raise UsageError(f"{self.name} has a chance node whose probabilities do not add up to 1")


def tree_of_payoffs(payoffs: Float[np.ndarray, "..."], name: str) -> GameTree:
    """A one-shot game `[actions of player 0, …, player]` as a tree: players move in turn and see nothing."""
    *shape, players = payoffs.shape
    sizes = [int(np.prod(shape[:i])) for i in range(players + 1)]  # nodes of each depth
    starts = np.cumsum([0, *sizes])
    nodes = int(starts[-1])
    depth = np.repeat(np.arange(players + 1), sizes)
    within = np.arange(nodes) - starts[depth]
    ends = depth == players
    children = np.append(shape, 0)[depth]
    width = max(shape)
    above = np.maximum(depth - 1, 0)
    utility = np.zeros((nodes, players))
    utility[ends] = payoffs.reshape(-1, players)
    first = starts[np.minimum(depth + 1, players)] + within * children
    return GameTree(
        name=name,
        players=players,
        player=np.where(ends, TERMINAL, depth).astype(np.int32),
        infoset=np.where(ends, -1, depth).astype(np.int32),
        parent=np.where(depth == 0, -1, starts[above] + within // np.append(shape, 1)[above]).astype(np.int32),
        first_child=np.where(ends, 0, first).astype(np.int32),
        num_children=children.astype(np.int32),
        chance=np.ones(nodes),
        utility=utility,
        infoset_player=np.arange(players, dtype=np.int32),
        legal=np.arange(width)[None] < np.asarray(shape)[:, None],
        observation=np.eye(players, dtype=np.float32),
    )
