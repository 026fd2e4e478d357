"""A worker runs in sessions, and reports its state, its numbers, and the work under way."""
