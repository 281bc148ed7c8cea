"""Training: the exact step, phases, checkpoints."""
