"""The version of charlm, which runs, comparisons and the package carry."""

__version__ = "0.2.0"
