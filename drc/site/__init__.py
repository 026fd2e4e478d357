"""A site: the streams, watcher and publisher of a daemon. The only place where all rooms meet."""
