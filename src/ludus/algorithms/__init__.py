"""One file per method: what its paper says, and nothing of the loop."""
