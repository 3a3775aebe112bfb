"""Models: recurrent networks, and counting."""
