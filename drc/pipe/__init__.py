"""What lies between a reader and an applier in one process: an ordered stream of transactions."""
