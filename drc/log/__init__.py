"""What lies between a source and its applier: an ordered stream of whole transactions."""
