"""Row changes as JSON messages for other programs, in the form of Debezium."""
