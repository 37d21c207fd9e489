"""Keras: families, the fused loop, losses, updates, callbacks, checkpoints."""
