"""Populations: who trains, against whom, when a policy is frozen, when one is reset, who is best."""
