"""Overcooked (Carroll et al. 2019) as JaxMARL implements it: two cooks fill orders until a time limit, a truncation.

Each cook sees the whole kitchen as an image with its own layers first, so one policy may play both.
"""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ludus.core.game import TimeStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec
from ludus.envs.jaxmarl_common import Members, all_act, no_reward, stack, stack_rewards, unstack
from ludus.envs.parts import import_part

_suite = import_part("jaxmarl.environments.overcooked")
_LAYOUTS: dict[str, Any] = _suite.overcooked_layouts
NAMES = tuple(_LAYOUTS)


class Overcooked:
    """One kitchen."""

    def __init__(self, name: str, *, max_steps: int, random_reset: bool, shaped: float):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "OvercookedV2 is now released", DeprecationWarning)
            self.suite = _suite.Overcooked(layout=_LAYOUTS[name], random_reset=random_reset, max_steps=max_steps)
        agents = tuple(self.suite.agents)
        views, _ = jax.eval_shape(self.suite.reset, jax.random.key(0))
        view = Box(views[agents[0]].shape, 0.0, 255.0)  # the suite's own space has height and width exchanged
        cooks = GroupSpec("cooks", len(agents), view, Discrete(self.suite.num_actions), "team", len(agents))
        self.members = (Members(cooks, agents),)
        self.shaped = shaped
        self.spec = GameSpec(
            f"overcooked/{name}",
            (cooks,),
            "general-sum" if shaped else "common",
            symmetric=True,
            horizon=max_steps,
            truncates=True,
        )

    def _show(self, observation: dict[str, Array], reward: dict[str, Array], truncated: Array) -> TimeStep:
        return TimeStep(
            observation=stack(observation, self.members),
            legal={},
            acting=all_act(self.spec),
            reward=reward,
            terminated=jnp.asarray(False),
            truncated=truncated,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Begin an episode."""
        observation, state = self.suite.reset(key)
        return state, self._show(observation, no_reward(self.spec), jnp.asarray(False))

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step."""
        moves = unstack(actions, self.members)
        observation, state, reward, done, info = self.suite.step_env(key, state, moves)
        if self.shaped:
            reward = {agent: reward[agent] + self.shaped * info["shaped_reward"][agent] for agent in reward}
        return state, self._show(observation, stack_rewards(reward, self.members), done["__all__"])

    def render(self, states: list[Any], path: str) -> None:
        """Draw the states of one episode as a GIF."""
        from jaxmarl.viz.overcooked_visualizer import OvercookedVisualizer
        from PIL import Image

        draw: Any = OvercookedVisualizer._render_grid  # its own GIFs need one more package
        margin = self.suite.agent_view_size - 2  # of the padding, all but one ring of wall
        frames = []
        for state in states:
            kitchen = np.asarray(state.maze_map)[margin:-margin, margin:-margin]
            directions, hands = np.asarray(state.agent_dir_idx), np.asarray(state.agent_inv)
            frames.append(Image.fromarray(draw(kitchen, agent_dir_idx=directions, agent_inv=hands)))
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=200, loop=0)


def make(name: str, *, max_steps: int = 400, random_reset: bool = False, shaped: float = 0.0) -> Overcooked:
    """A kitchen; `shaped` weighs the suite's bonuses for useful chores, which each cook gets for itself."""
    return Overcooked(name, max_steps=max_steps, random_reset=random_reset, shaped=shaped)
