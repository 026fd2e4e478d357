"""The measurements of ``make bench``: MySQL's own replica and ``drc`` side by side."""
