"""The demo: a marketplace written at two sites at once, replicated live, compared at the end."""
