import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;

/**
 * A Java backend's calls: {@code java -cp 'jackson/*' Backend.java [INGEST_URL SERVING_URL]}. Java 17 or newer, Jackson.
 *
 * <p>Puts three contents, asks for a ranking, tells what the user did with it, and makes the legacy call.
 */
public final class Backend {
    /** What to show, and the impression to name in what follows; null where moard did not rank. */
    record Slate(List<Long> contentIds, String impressionId) {}

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int ATTEMPTS = 7;

    // Share one: it keeps connections open. HTTP/1.1, for uvicorn speaks no other.
    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private final String ingest;
    private final String serving;
    private final String key = System.getenv("MOARD_KEY"); // scopes ingest and rank; null where none is configured

    Backend(String ingest, String serving) {
        this.ingest = ingest + "/api/v1";
        this.serving = serving + "/api/v1";
    }

    void putContent(long contentId, String title) throws IOException, InterruptedException {
        write("PUT", "/contents/" + contentId, Map.of("title", title));
    }

    /** A page that waits for its contents does not wait long: without an answer in time it shows the order it has. */
    Slate rank(String userId, List<Long> candidates, int size) throws InterruptedException {
        try {
            JsonNode answer = ask("/rank", Map.of("user_id", userId, "candidates", candidates, "size", size));
            List<Long> shown = new ArrayList<>();
            answer.get("slate").forEach(position -> shown.add(position.get("content_id").asLong()));
            return new Slate(shown, answer.get("impression_id").textValue());
        } catch (IOException error) {
            System.err.println("moard did not rank: " + error);
            return new Slate(candidates.subList(0, Math.min(size, candidates.size())), null);
        }
    }

    /** The id is made here, so that a repeated call counts once. */
    void click(String userId, long contentId, String impressionId) throws IOException, InterruptedException {
        Map<String, Object> event = new HashMap<>();
        event.put("type", "interaction");
        event.put("event_id", UUID.randomUUID().toString());
        event.put("kind", "click");
        event.put("user_id", userId);
        event.put("content_id", contentId);
        event.put("impression_id", impressionId);
        write("POST", "/events", event);
    }

    /** The legacy call, for users known by a click or in the {@code users} table. */
    List<Long> topContents(UUID userId, List<Long> contentIds) throws IOException, InterruptedException {
        JsonNode answer = ask("/predict/top-contents", Map.of("user_id", userId, "content_ids", contentIds));
        List<Long> best = new ArrayList<>();
        answer.get("content_ids").forEach(contentId -> best.add(contentId.asLong()));
        return best;
    }

    private JsonNode ask(String path, Map<String, ?> body) throws IOException, InterruptedException {
        HttpResponse<byte[]> answer = send("POST", serving + path, body, Duration.ofMillis(500));
        if (answer.statusCode() != 200) {
            throw new IOException(answer.statusCode() + ": " + new String(answer.body()));
        }
        return JSON.readTree(answer.body());
    }

    /** What must not be lost is sent until it is acknowledged, with the same ids each time. */
    private void write(String method, String path, Map<String, ?> body) throws IOException, InterruptedException {
        IOException problem = null;
        for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
            try {
                HttpResponse<byte[]> answer = send(method, ingest + path, body, Duration.ofSeconds(15));
                if (answer.statusCode() < 300) {
                    return;
                }
                problem = new IOException(answer.statusCode() + ": " + new String(answer.body()));
                if (answer.statusCode() != 429 && answer.statusCode() != 503) {
                    break; // the answer names the field at fault: sending it again would change nothing
                }
            } catch (IOException unreachable) {
                problem = unreachable;
            }
            Thread.sleep(500L << attempt);
        }
        throw problem;
    }

    private HttpResponse<byte[]> send(String method, String url, Map<String, ?> body, Duration timeout)
            throws IOException, InterruptedException {
        HttpRequest.Builder request =
                HttpRequest.newBuilder(URI.create(url))
                        .timeout(timeout)
                        .header("content-type", "application/json")
                        .method(method, BodyPublishers.ofByteArray(JSON.writeValueAsBytes(body)));
        if (key != null) {
            request.header("authorization", "Bearer " + key);
        }
        return http.send(request.build(), BodyHandlers.ofByteArray());
    }

    public static void main(String[] given) throws IOException, InterruptedException {
        Backend moard =
                new Backend(
                        given.length > 0 ? given[0] : "http://127.0.0.1:8001",
                        given.length > 1 ? given[1] : "http://127.0.0.1:8000");
        Map<Long, String> titles =
                new TreeMap<>(Map.of(101L, "A year of jazz", 102L, "Ten rules of sailing", 103L, "Everyday gardens"));
        for (Map.Entry<Long, String> content : titles.entrySet()) {
            moard.putContent(content.getKey(), content.getValue());
        }
        UUID ann = UUID.randomUUID();
        Slate shown = moard.rank(ann.toString(), List.copyOf(titles.keySet()), 2);
        long clicked = shown.contentIds().get(0);
        moard.click(ann.toString(), clicked, shown.impressionId());
        System.out.println(
                "showed " + shown.contentIds() + " as impression " + shown.impressionId() + ", clicked " + clicked);
        System.out.println("best for her now: " + moard.topContents(ann, List.copyOf(titles.keySet())));
    }
}
