"""The process of a daemon: start, lease, supervision, end."""
