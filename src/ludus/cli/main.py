"""`ludus COMMAND …`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ludus.core.errors import NotFiniteError, UsageError, unknown

USAGE = """usage: ludus COMMAND [arguments]        (ludus COMMAND --help explains each)

  list        list environments | list algorithms | list presets
  describe    describe ENVIRONMENT: groups, teams, spaces, horizon
  train       train ALGORITHM ENVIRONMENT [--steps N] [--seed S] [--seeds K] …
  resume      resume RUN: continue an interrupted run
  evaluate    evaluate RUN [--episodes N] [--against RUN2|random] [--json]
  report      report RUN [RUN …]: curves, tables, one HTML page
  render      render RUN: one episode as GIF or SVG
  league      league PRESET ENVIRONMENT: populations, meta-solvers, matchmaking; league --help for its verbs
  best-response  best-response RUN: how exploitable is a league's strategy?
  check-env   check-env ENVIRONMENT: step a game and say what is wrong with it
  cluster     cluster status: roles, rates, queues and policy lag of what trains on a Ray cluster
  solve       solve GAME [--method M] [--iterations N] [--target-exploitability X] [--json]
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    commands = _commands()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from ludus import __version__

        print(f"ludus {__version__}")
        return 0
    try:
        if arguments[0] not in commands:
            raise unknown("command", arguments[0], commands)
        return commands[arguments[0]](arguments[1:])
    except UsageError as error:
        return _fail(str(error), 2)
    except NotFiniteError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from ludus.experiment.interrupt import Interrupted
        from ludus.storage.arrays import DamagedFileError

        if isinstance(error, Interrupted):
            return _leave(error.code, error.run)
        if isinstance(error, DamagedFileError):
            return _fail(str(error), 2)
        raise


def _fail(text: str, code: int) -> int:
    print(f"ludus: {text}", file=sys.stderr)
    return code


def _leave(code: int, run: str) -> int:
    """End although a device program may still run in its thread."""
    how = "ludus league resume" if os.path.exists(os.path.join(run, "league.toml")) else "ludus resume"
    print(f"ludus: stopped; the newest checkpoint is kept, go on with: {how} {run}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


def _commands() -> dict[str, Callable[[list[str]], int]]:
    from ludus.cli import games, league, results, solve, training

    return {
        "list": games.list_command,
        "describe": games.describe,
        "check-env": games.check_env,
        "cluster": training.cluster,
        "train": training.train,
        "resume": training.resume,
        "evaluate": results.evaluate,
        "report": results.report,
        "render": results.render,
        "league": league.league,
        "best-response": league.best_response,
        "solve": solve.solve,
    }


if __name__ == "__main__":
    sys.exit(main())
