"""One experiment: its configuration, its run directory, training, evaluation and reports."""
