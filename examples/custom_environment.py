"""A game of one's own: Nim, a sequential zero-sum game with legal-action masks, learned by self-play.

    python examples/custom_environment.py --steps 400000

Stones lie in a heap. Players take one, two or three in turn; who takes the last stone wins. Who must move at a heap
of 4, 8, 12, … loses against perfect play.

Beside this file, the command line plays the same game by the name of its function:

    ludus train ppo custom_environment:nim --env.stones 12
"""

import argparse
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

import ludus


class State(eqx.Module):
    """All that the game remembers between two steps."""

    heap: Int[Array, ""]
    mover: Int[Array, ""]


class Nim:
    """One heap, two players."""

    def __init__(self, stones: int):
        self.stones = stones
        players = ludus.GroupSpec(
            name="players",
            size=2,
            observation=ludus.Box((stones + 1,), 0.0, 1.0),
            action=ludus.Discrete(3),
            team="player",
            slots=1,  # one row of observations: the mover's
            masked=True,  # legal actions come with it
            rivals=True,  # every player is a team of its own
        )
        self.spec = ludus.GameSpec(
            name="nim", groups=(players,), reward="zero-sum", turns="sequential", symmetric=True, horizon=stones
        )

    def _show(self, state: State, reward: Array) -> ludus.TimeStep:
        over = state.heap == 0
        return ludus.TimeStep(
            observation={"players": jax.nn.one_hot(state.heap, self.stones + 1)[None]},
            legal={"players": ((jnp.arange(1, 4) <= state.heap) | over)[None]},
            acting={"players": (jnp.arange(2) == state.mover) & ~over},
            reward={"players": reward},
            terminated=over,
            truncated=jnp.asarray(False),
            seat={"players": state.mover[None]},
        )

    def reset(self, key: Key[Array, ""]) -> tuple[State, ludus.TimeStep]:
        """A full heap; chance says who begins."""
        state = State(jnp.asarray(self.stones), jax.random.randint(key, (), 0, 2))
        return state, self._show(state, jnp.zeros(2))

    def step(self, key: Key[Array, ""], state: State, actions: dict[str, Array]) -> tuple[State, ludus.TimeStep]:
        """The mover takes stones; there is no chance, so the key is unused."""
        taken = actions["players"][0] + 1
        heap = jnp.maximum(state.heap - taken, 0)
        won = jnp.where(jnp.arange(2) == state.mover, 1.0, -1.0)
        reward = jnp.where(heap == 0, won, 0.0)
        state = State(heap, 1 - state.mover)
        return state, self._show(state, reward)


def nim(*, stones: int = 10) -> Nim:
    """Makes the game; keyword-only parameters are its options."""
    return Nim(stones)


def preferred(policy: Any, stones: int) -> dict[int, int]:
    """How many stones the policy takes from every heap."""
    heaps = jnp.arange(1, stones + 1)
    observation = jax.nn.one_hot(heaps, stones + 1)[:, None, :]
    legal = (jnp.arange(1, 4) <= heaps[:, None])[:, None, :]
    action = policy.act(observation, legal).action[:, 0]
    return {int(heap): int(a) + 1 for heap, a in zip(heaps, action, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps to train for")
    steps = parser.parse_args().steps

    ludus.register("nim", nim)
    run = ludus.train(ludus.PPO(learning_rate=1e-3), "nim", options={"stones": 10}, steps=steps, num_envs=32)
    result = ludus.evaluate(run, against="random", episodes=200, explore=False).to_dict()
    print(f"against random play: won {result['win_rate']:.2f}, lost {result['loss_rate']:.2f}")
    print("stones taken from each heap:", preferred(run.policy["players"], 10))


if __name__ == "__main__":
    main()
