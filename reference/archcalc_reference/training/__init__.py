"""Training: data, steps, checkpoints."""
