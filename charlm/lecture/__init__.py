"""Measurements of the lecture's claims on the user's machine, as chapters of a page."""
