"""Find, decode and measure the files of a text."""
