"""Learners that keep a table: Q-learning and its relatives of game theory."""
