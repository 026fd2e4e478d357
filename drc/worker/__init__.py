"""Workers: sessions, and reports of a worker's state, numbers and work under way."""
