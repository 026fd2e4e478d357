"""Commands of operators to a site: pause, stop, restart, reposition, skip, reload."""
