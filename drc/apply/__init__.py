"""Net rows, batches, and the conveyor that commits them in the origin's order."""
