"""The vocabulary that every layer shares: spaces, game specifications, time steps, policies, rollouts, algorithms."""
