import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

/** Produce a click to Kafka from Java: {@code java -cp 'jars/*' Produce.java USER CONTENT}. Needs kafka-clients and Jackson. */
public final class Produce {
    public static void main(String[] arguments) throws Exception {
        String userId = arguments[0];
        Map<String, Object> click = Map.of(
                "type", "interaction",
                "event_id", UUID.randomUUID().toString(), // sent again under the same id it counts once
                "kind", "click",
                "user_id", userId,
                "content_id", Long.parseLong(arguments[1]));
        // acks=all and idempotence are the Java client's defaults, and so is murmur2: name no partition, only the key.
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", System.getenv().getOrDefault("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
                "key.serializer", StringSerializer.class,
                "value.serializer", StringSerializer.class);
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings)) {
            String value = new ObjectMapper().writeValueAsString(click);
            RecordMetadata sent = producer.send(new ProducerRecord<>("moard.events", userId, value)).get();
            System.out.println("partition " + sent.partition() + ", offset " + sent.offset());
        }
    }
}
