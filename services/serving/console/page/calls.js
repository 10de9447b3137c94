/** Calls of moard with the key of this tab; the stream that comes again when it breaks. */

import { $ } from "./dom.js";

const KEY = "moard.key";
const QUIET_MS = 12_000; // nothing for so long: a connection that only looks open
const PAUSES_MS = [300, 1_000, 2_000, 5_000];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export class Refused extends Error {}

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

/** Open a dialog; resolve with its return value. The browser keeps the focus inside and gives it back. */
export function opened(dialog) {
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue), { once: true }));
}

for (const button of document.querySelectorAll("dialog .no")) {
  button.addEventListener("click", () => button.closest("dialog").close("no"));
}

let asking = null;
/** Ask for a key, once however many calls need one; false when there is none to be had. */
export function askForKey(detail) {
  asking ??= (async () => {
    $("key-error").hidden = !sessionStorage.getItem(KEY);
    $("key-error").textContent = detail;
    $("key-input").value = "";
    const given = (await opened($("key"))) === "yes" && $("key-input").value.trim();
    $("key-input").value = "";
    if (given) sessionStorage.setItem(KEY, given);
    asking = null;
    return Boolean(given);
  })();
  return asking;
}

async function refusal(answer) {
  const said = await answer.json().catch(() => ({}));
  const detail = typeof said.detail === "string" ? said.detail : `${answer.status} ${answer.statusText}`;
  return detail.charAt(0).toUpperCase() + detail.slice(1);
}

/** Call the API and return its JSON; throws an Error whose message is for people. */
export async function call(method, path) {
  let answer;
  try {
    answer = await fetch(path, { method, headers: headers(), cache: "no-store" });
  } catch {
    throw new Error("Serving does not answer: check that it runs");
  }
  if (answer.ok) return answer.json();
  const detail = await refusal(answer);
  if (answer.status === 401 || answer.status === 403) {
    if (method !== "GET" && (await askForKey(detail))) return call(method, path);
    throw new Refused(detail);
  }
  throw new Error(detail);
}

/** Follow the stream for ever. `heard(name, data)` gets its events, `state(name, words)` how the connection is. */
export async function follow(heard, state) {
  for (let failures = 0; ; failures += 1) {
    const quiet = new AbortController();
    let words = "Connection lost, trying again";
    let watch;
    const waited = () => {
      clearTimeout(watch);
      watch = setTimeout(() => quiet.abort(), QUIET_MS);
    };
    try {
      waited();
      const answer = await fetch("ui/stream", { headers: headers(), cache: "no-store", signal: quiet.signal });
      if (answer.status === 401 || answer.status === 403) {
        clearTimeout(watch);
        state("key", "A key is needed");
        const detail = await refusal(answer);
        while (!(await askForKey(detail))) await wanted();
        failures = -1;
        continue;
      }
      if (!answer.ok) throw new Refused(await refusal(answer));
      await read(answer.body, (name, data) => {
        waited();
        failures = -1;
        state("live", "Live");
        heard(name, data);
      });
    } catch (error) {
      words = error instanceof Refused ? `${error.message}; trying again` : words;
    }
    clearTimeout(watch);
    if (failures >= 0) state("lost", words); // not where the server only asked to come again
    await pause(PAUSES_MS[Math.min(Math.max(failures, 0), PAUSES_MS.length - 1)] * (0.75 + Math.random() / 2));
  }
}

/** Resolve when somebody asks for the key dialog again. */
async function wanted() {
  const button = $("enter-key");
  button.hidden = false;
  await new Promise((done) => button.addEventListener("click", done, { once: true }));
  button.hidden = true;
}

async function read(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [name, data] = event.split("\n");
      heard(name.slice("event: ".length), JSON.parse(data.slice("data: ".length)));
    }
  }
}
