"""Applying: batches of net rows, and the conveyor that commits the batches in commit order."""
