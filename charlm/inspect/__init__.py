"""Read-only looks into a trained model."""
