"""The tables of schema ``drc`` on a site: a file for each table, with all its SQL. Edge."""
