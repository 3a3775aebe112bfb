"""The way from text files to batches of symbols."""
