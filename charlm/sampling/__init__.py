"""Sampling of text from a model."""
