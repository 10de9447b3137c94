// A Node backend's calls: node backend.mjs [INGEST_URL SERVING_URL]. Node 18 or newer, no package.
// Puts three contents, asks for a ranking, and tells what the user did with it.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const [ingestUrl = "http://127.0.0.1:8001", servingUrl = "http://127.0.0.1:8000"] = process.argv.slice(2);
const key = process.env.MOARD_KEY; // scopes ingest and rank; unset where no key is configured
const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };

// A page that waits for its contents does not wait long: without an answer in time it shows the order it has.
async function rank(userId, candidates, size) {
  try {
    const answer = await fetch(`${servingUrl}/api/v1/rank`, {
      method: "POST",
      headers,
      body: JSON.stringify({ user_id: userId, candidates, size }),
      signal: AbortSignal.timeout(500),
    });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
    const { slate, impression_id } = await answer.json();
    return { slate: slate.map((position) => position.content_id), impressionId: impression_id };
  } catch (error) {
    console.error(`moard did not rank: ${error}`);
    return { slate: candidates.slice(0, size), impressionId: null };
  }
}

// What must not be lost is sent until it is acknowledged. The same event_id each time: it counts once.
async function write(method, path, body) {
  for (let attempt = 0; ; attempt++) {
    let problem;
    try {
      const answer = await fetch(`${ingestUrl}/api/v1${path}`, {
        method,
        headers,
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(15_000),
      });
      if (answer.ok) return;
      problem = new Error(`${answer.status}: ${await answer.text()}`);
      // Another 4xx names the field at fault: sending it again would change nothing.
      if (answer.status !== 429 && answer.status !== 503) throw Object.assign(problem, { final: true });
    } catch (error) {
      if (error.final || attempt === 6) throw error;
      problem = error;
    }
    if (attempt === 6) throw problem;
    await sleep(500 * 2 ** attempt);
  }
}

function click(userId, contentId, impressionId) {
  return write("POST", "/events", {
    type: "interaction",
    event_id: randomUUID(),
    kind: "click",
    user_id: userId,
    content_id: contentId,
    impression_id: impressionId,
  });
}

const titles = { 101: "A year of jazz", 102: "Ten rules of sailing", 103: "Everyday gardens" };
for (const [id, title] of Object.entries(titles)) await write("PUT", `/contents/${id}`, { title });
const { slate, impressionId } = await rank("ann", Object.keys(titles).map(Number), 2);
await click("ann", slate[0], impressionId);
console.log(`showed [${slate.join(", ")}] as impression ${impressionId}, clicked ${slate[0]}`);
