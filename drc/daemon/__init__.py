"""The process: start, lease, supervision, end."""
