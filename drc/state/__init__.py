"""The checkpoint store, and the migrations of the store and of schema ``drc``."""
