"""STORM (Khan et al. 2023), matrix games played by walking about, as JaxMARL implements it.

Players collect cooperate and defect coins; an interaction pays the matrix game with the mixtures they hold. An
episode is `num_outer_steps` rounds of `num_inner_steps` steps each. The suite begins the next round by itself: the
last step of a round pays nothing and shows the new one, also at the end of the episode, which is a truncation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ludus.core.errors import UsageError, unknown
from ludus.core.game import TimeStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec
from ludus.envs.jaxmarl_common import all_act, no_reward
from ludus.envs.parts import import_part

NAMES = ("",)
_suite = import_part("jaxmarl.environments.storm")
_VARIANTS = {"2p": _suite.InTheGrid_2p, "np": _suite.InTheMatrix}


def _strong(state: Any) -> Any:
    """The state without weak types, which the suite has now here, now there."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)


class Storm:
    """Two players (`2p`), or any number (`np`). Views are egocentric; grid and inventories come as one vector."""

    def __init__(self, variant: str, payoff_matrix: Sequence[Sequence[Sequence[float]]], **options: Any):
        payoffs = np.asarray(payoff_matrix, np.float32)
        if payoffs.shape != (2, 2, 2):
            raise UsageError(f"storm takes both players' 2 × 2 payoffs, shape (2, 2, 2), not {payoffs.shape}")
        if not np.array_equal(payoffs[1], payoffs[0].T):
            raise UsageError("storm's players are exchangeable: the second payoff matrix is the first one transposed")
        self.suite: Any = _VARIANTS[variant](payoff_matrix=jnp.asarray(payoffs), **options)
        observation = jax.eval_shape(lambda key: self._rows(self.suite.reset(key)[0]), jax.random.key(0))
        size = self.suite.num_agents
        players = GroupSpec(
            "players", size, Box(observation.shape[1:]), Discrete(self.suite.num_actions), "player", size, rivals=True
        )
        self.spec = GameSpec(
            "storm",
            (players,),
            "general-sum",
            symmetric=True,
            horizon=self.suite.num_inner_steps * self.suite.num_outer_steps,
            truncates=True,
        )

    @staticmethod
    def _rows(observation: Any) -> Array:
        """One vector for each agent, from one array or from one dictionary each."""
        if isinstance(observation, tuple):
            parts = [(view["observation"].ravel(), view["inventory"]) for view in observation]
            return jnp.stack([jnp.concatenate([p.astype(jnp.float32) for p in part]) for part in parts])
        return observation.reshape(observation.shape[0], -1).astype(jnp.float32)

    def _show(self, observation: Any, reward: dict[str, Array], truncated: Array) -> TimeStep:
        return TimeStep(
            observation={"players": self._rows(observation)},
            legal={},
            acting=all_act(self.spec),
            reward=reward,
            terminated=jnp.asarray(False),
            truncated=truncated,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Begin an episode."""
        observation, state = self.suite.reset(key)
        return _strong(state), self._show(observation, no_reward(self.spec), jnp.asarray(False))

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step."""
        moves = tuple(actions["players"][i] for i in range(self.suite.num_agents))
        observation, state, reward, done, _ = self.suite.step_env(key, state, moves)
        paid = {"players": jnp.stack([jnp.asarray(r, jnp.float32) for r in reward])}
        return _strong(state), self._show(observation, paid, jnp.asarray(done["__all__"], bool))

    def render(self, states: list[Any], path: str) -> None:
        """Draw the states of one episode as a GIF."""
        from PIL import Image

        states = [jax.tree.map(np.asarray, state) for state in states]
        states = [state.replace(step=0, outer_t=0) for state in states]  # drawing time fails under numpy 2
        frames = [Image.fromarray(self.suite.render(state)) for state in states]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=200, loop=0)


def make(
    name: str,
    *,
    variant: Literal["2p", "np"] = "2p",
    num_agents: int = 2,
    num_inner_steps: int = 152,
    num_outer_steps: int = 1,
    freeze_penalty: int = 5,
    fixed_coin_location: bool = True,
    payoff_matrix: Sequence[Sequence[Sequence[float]]] = (((3, 0), (5, 1)), ((3, 5), (0, 1))),
) -> Storm:
    """STORM; the default payoffs are a prisoner's dilemma, and only `np` takes more than two agents."""
    if variant not in _VARIANTS:
        raise unknown("variant", variant, _VARIANTS)
    if num_agents < 2 or (variant == "2p" and num_agents != 2):
        raise UsageError(f"storm's variant '{variant}' is not for {num_agents} agents")
    return Storm(
        variant,
        payoff_matrix,
        num_agents=num_agents,
        num_inner_steps=num_inner_steps,
        num_outer_steps=num_outer_steps,
        freeze_penalty=freeze_penalty,
        fixed_coin_location=fixed_coin_location,
    )
