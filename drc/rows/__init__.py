"""Rows: images, keys, net rows, and values in readable form. Pure."""
