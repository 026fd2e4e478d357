"""A site as a source: dump protocol, reader thread, tagger, and the GTIDs to read from."""
