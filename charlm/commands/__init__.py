"""What each command does, once its line is parsed: call, show, signal."""
