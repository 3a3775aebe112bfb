"""Models: recurrent networks and n-grams."""
