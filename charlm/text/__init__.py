"""From text files to batches of symbols."""
