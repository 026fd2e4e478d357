"""One site: its streams, watcher and publisher. The only place where all rooms meet."""
