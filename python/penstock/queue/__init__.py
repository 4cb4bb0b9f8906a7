"""What waits, when it is tried, what becomes of it, and what its sender is told. Pure."""
