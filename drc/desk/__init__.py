"""The conflict log for people: read, count, forecast, decide again, settle. Edge, pure inside."""
