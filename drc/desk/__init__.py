"""Desk: reads, counts, replays, settles and forecasts conflicts for people. Edge, pure inside."""
