"""Run directories and checkpoints on disk."""
