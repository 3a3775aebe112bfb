"""The views of `charlm inspect`: measurements as sentences, figures and tables."""
