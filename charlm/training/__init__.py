"""Training: setup, loop, optimizer."""
