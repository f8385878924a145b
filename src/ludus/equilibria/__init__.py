"""Solvers and exact evaluation of games that are given as arrays."""
