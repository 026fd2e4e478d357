"""Programs that talk to daemons over their HTTP API."""
