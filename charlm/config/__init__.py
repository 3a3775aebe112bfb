"""The configuration: its schema, and where values come from."""
