"""Native kernels for the recurrent layers, compiled on the user's machine for its processor."""
