"""OpenSpiel's PSRO v2: NashConv and seconds of every iteration, as one JSON line.

    python bench/peers/spiel_psro.py --game leduc_poker --iterations 20 --sims 100 --meta nash

It needs cvxpy and ecos (with DQN dm-haiku and flax), which the peer does not declare.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import pyspiel
from open_spiel.python import policy
from open_spiel.python.algorithms import exploitability, policy_aggregator
from open_spiel.python.algorithms.psro_v2 import best_response_oracle, psro_v2


def exact(game: Any, _: int) -> tuple[Any, list[Any]]:
    """Exact best responses, from uniform play."""
    uniform = policy.UniformRandomPolicy(game)
    return best_response_oracle.BestResponseOracle(game=game, policy=uniform), [uniform] * game.num_players()


def learner(game: Any, episodes: int) -> tuple[Any, list[Any]]:
    """DQN with the settings of the peer's own example."""
    from open_spiel.python import rl_environment
    from open_spiel.python.algorithms.psro_v2 import rl_oracle, rl_policy

    env = rl_environment.Environment(game)
    settings = {
        "state_representation_size": env.observation_spec()["info_state"][0],
        "num_actions": env.action_spec()["num_actions"],
        "hidden_layers_sizes": [256] * 4,
        "batch_size": 32,
        "learning_rate": 1e-2,
        "update_target_network_every": 1000,
        "learn_every": 10,
        "optimizer_str": "sgd",
    }
    oracle = rl_oracle.RLOracle(
        env, rl_policy.DQNPolicy, settings, number_training_episodes=episodes, self_play_proportion=0.0, sigma=0.0
    )
    agents = [rl_policy.DQNPolicy(env, player, **settings) for player in range(game.num_players())]
    for agent in agents:
        agent.freeze()
    return oracle, agents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="leduc_poker")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--sims", type=int, default=100)
    parser.add_argument("--meta", default="nash")
    parser.add_argument("--oracle", choices=("exact", "dqn"), default="exact")
    parser.add_argument("--episodes", type=int, default=1000, help="of training a learner")
    parser.add_argument("--until", type=float, default=0.0, help="stop when NashConv is that low")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which no iteration begins")
    given = parser.parse_args()
    game = pyspiel.load_game(given.game)
    begin = time.monotonic()
    oracle, first = (exact if given.oracle == "exact" else learner)(game, given.episodes)
    solver = psro_v2.PSROSolver(
        game,
        oracle,
        initial_policies=first,
        meta_strategy_method=given.meta,
        sims_per_entry=given.sims,
        number_policies_selected=1,
        training_strategy_selector="probabilistic",
        sample_from_marginals=True,
        symmetric_game=False,
    )
    seconds, gaps, measured = [], [], 0.0
    for _ in range(given.iterations):
        solver.iteration()
        seconds.append(time.monotonic() - begin - measured)
        since = time.monotonic()
        own = solver.get_policies()
        mixed = policy_aggregator.PolicyAggregator(game).aggregate(
            range(game.num_players()), own, solver.get_meta_strategies()
        )
        gaps.append(float(exploitability.nash_conv(game, mixed)))
        measured += time.monotonic() - since
        if gaps[-1] <= given.until or seconds[-1] > given.limit:
            break
    print(
        json.dumps(
            {
                "game": given.game,
                "oracle": given.oracle,
                "sims": given.sims,
                "seconds": seconds[-1],
                "nash_conv": gaps[-1],
                "curve": gaps,
                "seconds_of_iterations": seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
