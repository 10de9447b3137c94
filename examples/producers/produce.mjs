// Produce a click to Kafka from Node: node produce.mjs USER CONTENT. Needs kafkajs (npm install kafkajs@2.2.4).
import { randomUUID } from "node:crypto";
import { Kafka, Partitioners, logLevel } from "kafkajs";

const [userId, contentId] = process.argv.slice(2);
const kafka = new Kafka({
  brokers: (process.env.KAFKA_BOOTSTRAP_SERVERS ?? "127.0.0.1:9092").split(","),
  logLevel: logLevel.ERROR,
});
const producer = kafka.producer({
  createPartitioner: Partitioners.DefaultPartitioner, // murmur2, as Java's; LegacyPartitioner is not
  idempotent: true,
  maxInFlightRequests: 1, // more would let a repeated batch overtake
});

await producer.connect();
try {
  const click = {
    type: "interaction",
    event_id: randomUUID(), // sent again under the same id it counts once
    kind: "click",
    user_id: userId,
    content_id: Number(contentId),
  };
  const [sent] = await producer.send({
    topic: "moard.events",
    acks: -1,
    messages: [{ key: userId, value: JSON.stringify(click) }], // the key is the user
  });
  console.log(`partition ${sent.partition}, offset ${sent.baseOffset}`);
} finally {
  await producer.disconnect();
}
