"""Sums over segments as gathers: on every backend much faster than scattering, and always in the same order."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

ROUND = 256  # what one more round costs, in entries
WIDTHS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)


class GatherSum(eqx.Module):
    """Adds up entries by segment: rounds of short rows are gathered and summed until each segment is one row.

    Index n, one past the entries, stands for nothing: a zero.
    """

    rounds: tuple[Int[Array, "_ _"], ...]

    @staticmethod
    def of(segment: Int[np.ndarray, " entry"], segments: int) -> GatherSum:
        """The plan for entries of these segments; an entry of segment −1 is left out."""
        rounds = []
        while True:
            rows, owner = _rows(np.asarray(segment), segments)
            rounds.append(jnp.asarray(rows, jnp.int32))
            if owner is None:
                return GatherSum(tuple(rounds))
            segment = owner

    def __call__(self, entries: Float[Array, "entry *batch"]) -> Float[Array, "segment *batch"]:
        for index in self.rounds:
            entries = jnp.take(entries, index, axis=0, mode="fill", fill_value=0).sum(1)
        return entries

    def rest(self, rows: Float[Array, "row *batch"]) -> Float[Array, "segment *batch"]:
        """The rounds after the first, for who gathers the first himself."""
        return GatherSum(self.rounds[1:])(rows) if len(self.rounds) > 1 else rows


def _rows(segment: np.ndarray, segments: int) -> tuple[np.ndarray, np.ndarray | None]:
    """One round: rows of entries, and each row's segment, or None where segment k's only row is row k."""
    entries = len(segment)
    counts = np.bincount(segment[segment >= 0], minlength=segments)
    largest = int(counts.max(initial=1))
    cost = {w: w * int(np.maximum(-(-counts // w), 1).sum()) + (ROUND + segments if largest > w else 0) for w in WIDTHS}
    if largest <= 2 * WIDTHS[-1]:
        cost[largest] = largest * segments
    width = min(cost, key=lambda w: (cost[w], w))
    if width >= largest:
        rows_of = np.ones(segments, int)
    else:
        rows_of = np.maximum(-(-counts // width), 1)
    first = np.cumsum(rows_of) - rows_of
    table = np.full((int(rows_of.sum()), width), entries, np.int64)
    order = np.argsort(segment, kind="stable")
    order = order[segment[order] >= 0]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[first[segment[order]] + rank // width, rank % width] = order
    return table, (None if len(table) == segments else np.repeat(np.arange(segments), rows_of))
