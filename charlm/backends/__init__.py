"""Where and how a training step is computed."""
