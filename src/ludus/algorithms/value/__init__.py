"""Learning action values from replay: DQN and its multi-agent families."""
