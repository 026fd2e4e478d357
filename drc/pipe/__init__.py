"""The pipe from a reader to an applier in a process: an ordered stream of transactions."""
