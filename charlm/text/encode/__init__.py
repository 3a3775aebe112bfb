"""Count the symbols of a text, divide it into splits and write it as shards."""
