"""Backends that produce events to Kafka themselves, in three languages."""
