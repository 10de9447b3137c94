"""Kafka to weights."""
