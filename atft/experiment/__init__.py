"""Experiments: tiers, run directories, and the one look at the test period."""
