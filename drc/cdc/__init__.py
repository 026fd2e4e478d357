"""Row changes as JSON messages for others, one each, in the form that Debezium made known."""
