"""Read-only analyses of a trained model."""
