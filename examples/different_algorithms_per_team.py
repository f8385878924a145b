"""Two teams, two algorithms: predators learn by MAPPO, the prey by PPO.

    python examples/different_algorithms_per_team.py --steps 1000000

The same from the command line:

    ludus train predators=mappo,prey=ppo mpe/simple_tag --predators.entropy-weight 0.02
"""

import argparse

import ludus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps to train for")
    steps = parser.parse_args().steps

    algorithm = ludus.PerTeam({"predators": ludus.MAPPO(entropy_weight=0.02), "prey": ludus.PPO()})
    run = ludus.train(algorithm, "mpe/simple_tag", steps=steps, seed=0)
    result = ludus.evaluate(run, episodes=64).to_dict()
    for team, numbers in result["teams"].items():
        low, high = numbers["interval"]
        print(f"{team}: return per agent {numbers['mean_return']:.2f}, 95 % interval [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
