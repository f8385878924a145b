"""OpenSpiel's PSRO v2 with exact best responses: NashConv and seconds of every iteration, as one JSON line.

    python bench/peers/spiel_psro.py --game leduc_poker --iterations 20 --sims 100 --meta nash

It needs cvxpy and ecos, which the peer does not declare.
"""

from __future__ import annotations

import argparse
import json
import time

import pyspiel
from open_spiel.python import policy
from open_spiel.python.algorithms import exploitability, policy_aggregator
from open_spiel.python.algorithms.psro_v2 import best_response_oracle, psro_v2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="leduc_poker")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--sims", type=int, default=100)
    parser.add_argument("--meta", default="nash")
    given = parser.parse_args()
    game = pyspiel.load_game(given.game)
    begin = time.monotonic()
    oracle = best_response_oracle.BestResponseOracle(game=game, policy=policy.UniformRandomPolicy(game))
    solver = psro_v2.PSROSolver(
        game,
        oracle,
        initial_policies=[policy.UniformRandomPolicy(game) for _ in range(game.num_players())],
        meta_strategy_method=given.meta,
        sims_per_entry=given.sims,
        number_policies_selected=1,
        training_strategy_selector="probabilistic",
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
    print(
        json.dumps(
            {"game": given.game, "sims": given.sims, "seconds": seconds[-1], "nash_conv": gaps[-1], "curve": gaps}
        )
    )


if __name__ == "__main__":
    main()
