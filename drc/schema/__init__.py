"""The tables of schema ``drc`` on a site: a file each, and all SQL about them. Edge."""
