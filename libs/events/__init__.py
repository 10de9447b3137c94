"""The wire contract: what travels through Kafka, and how it is encoded."""
