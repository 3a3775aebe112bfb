"""Measure how well models predict a text, alone or together, as they are or as they learn."""
