"""Train, evaluate and store policies in a few lines.

    python examples/quickstart.py --steps 1000000

The default is a short run that only shows that everything works.
"""

import argparse

import ludus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps to train for")
    steps = parser.parse_args().steps

    run = ludus.train(ludus.PPO(), "mpe/simple_spread", steps=steps, seed=0)
    result = ludus.evaluate(run, episodes=64).to_dict()
    print("return per agent:", result["mean_return"], "95 % interval:", result["interval"])
    print("run directory:", run.path)


if __name__ == "__main__":
    main()
