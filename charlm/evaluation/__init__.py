"""Evaluation of models on a text: one or a mixture, static or dynamic."""
