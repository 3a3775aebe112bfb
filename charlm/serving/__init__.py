"""A server of completions: one model, loaded once, that writes and scores for several clients."""
