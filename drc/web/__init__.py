"""The HTTP side of a daemon: API, metrics, dashboard."""
