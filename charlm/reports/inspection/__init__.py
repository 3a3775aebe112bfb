"""The views of `charlm inspect`: what was measured as sentences, figures and tables."""
