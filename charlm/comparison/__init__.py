"""Comparison of cells on equal terms: a plan, its runs, their results."""
