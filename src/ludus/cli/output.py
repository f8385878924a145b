"""What commands print."""

from __future__ import annotations

import json
from typing import Any


def print_json(value: Any) -> None:
    """One object on standard output, and nothing else there."""
    print(json.dumps(value), flush=True)
