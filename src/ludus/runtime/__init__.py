"""Where it all runs: rollouts, and one jitted program per iteration over the devices of one process."""
