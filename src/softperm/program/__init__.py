"""The program: what the library knows nothing of."""
