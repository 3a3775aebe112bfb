"""Cells against each other on equal terms: a plan, its runs, what they show."""
