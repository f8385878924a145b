"""What lasts: array files with their own hash, checkpoints, and the lock of a run directory."""
