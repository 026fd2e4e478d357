"""The transport over Kafka: publishers write frames to a topic, streams read the frames."""
