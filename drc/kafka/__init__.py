"""What lies between a reader and an applier in two processes: frames in a Kafka topic."""
