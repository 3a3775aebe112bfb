"""The configuration: its schema, and the sources of its values."""
