"""Backends: different ways to compute the same networks."""
