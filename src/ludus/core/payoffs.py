"""The third exact description of a game: a payoff tensor `[actions of player 0, …, actions of player n−1, player]`."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from ludus.core.errors import UsageError


def check_payoffs(payoffs: Any) -> Float[np.ndarray, "..."]:
    """A payoff tensor in double precision. Raises `UsageError` for a wrong shape, NaN or infinite entries."""
    try:
        tensor = np.asarray(payoffs, float)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a payoff tensor must be numbers in equal rows: {error}") from error
    if tensor.ndim < 2 or tensor.shape[-1] != tensor.ndim - 1 or 0 in tensor.shape:
        raise UsageError(
            f"a payoff tensor has one axis for each player's actions and a last axis with one entry for each player; "
            f"shape {tensor.shape} has {max(tensor.ndim - 1, 0)} action axes and "
            f"{tensor.shape[-1] if tensor.ndim else 0} payoffs"
        )
    if not np.isfinite(tensor).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(tensor))[0])
        raise UsageError(f"a payoff tensor must not contain NaN or infinite entries, as at {where}")
    return tensor


def is_zero_sum(payoffs: Float[np.ndarray, "..."]) -> bool:
    """Whether two players' payoffs add up to 0 everywhere."""
    return payoffs.shape[-1] == 2 and bool(np.allclose(payoffs.sum(-1), 0.0))
