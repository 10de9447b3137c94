"""HTTP to Kafka, and Kafka to user history."""
