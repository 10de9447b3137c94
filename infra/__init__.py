"""The local stack: Kafka, Redis and MariaDB as processes of this machine."""
