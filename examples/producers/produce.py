"""Produce a click to Kafka from Python: ``python -m examples.producers.produce USER CONTENT``. Needs aiokafka."""

import asyncio
import json
import os
import sys
import uuid

from aiokafka import AIOKafkaProducer


async def main(user_id: str, content_id: int) -> None:
    """Send one click and return once the broker has it."""
    click = {
        "type": "interaction",
        "event_id": str(uuid.uuid4()),  # sent again under the same id it counts once
        "kind": "click",
        "user_id": user_id,
        "content_id": content_id,
    }
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
        acks="all",  # the defaults are 1 and no idempotence: events could be lost, or stored twice
        enable_idempotence=True,
    )
    await producer.start()
    try:
        # The key is the user: aiokafka's partitioner is murmur2, as Java's.
        sent = await producer.send_and_wait("moard.events", json.dumps(click).encode(), key=user_id.encode())
        print(f"partition {sent.partition}, offset {sent.offset}")  # noqa: T201
    finally:
        await producer.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
