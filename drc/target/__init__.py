"""A site as a target: the sessions that apply there, and all that they run. Edge."""
