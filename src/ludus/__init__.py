"""Ludus trains populations of agents in any kind of game.

What is listed in `__init__.pyi` is imported when it is first asked for, so that processes that step games on the host
need neither JAX nor a learner.
"""

from __future__ import annotations

import lazy_loader

import ludus.league  # noqa: F401

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Whoever imports that package first would put it in the place of the function `ludus.league`; it was imported above.
del league
