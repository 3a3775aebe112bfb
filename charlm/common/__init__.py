"""Errors, wording, files and other modules that every package imports."""
