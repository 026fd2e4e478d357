"""All that knows a row: images, keys, net rows, values as people read them. Pure."""
