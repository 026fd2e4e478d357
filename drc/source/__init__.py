"""The reader of one site's binlog: dump protocol, framing, tagger."""
