"""What ``make bench`` measures: one source, MySQL's own replica and ``drc``, side by side."""
