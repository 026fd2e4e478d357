"""Target: the sessions that apply at a site, and the statements of these sessions. Edge."""
