"""What is on disk: run directories and checkpoints."""
