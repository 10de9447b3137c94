/** Dead letters by reason, with a look inside the newest. */

import { call } from "./calls.js";
import { $, h, keyed, problemIn, text } from "./dom.js";
import { bytes, count, date, rate } from "./format.js";

let reason = null; // whose letters are shown; undefined: none yet
let chosen = false;

export function heardOfLetters(look) {
  const totals = {};
  for (const part of look.parts.filter((one) => one.service === "learner")) {
    for (const [name, number] of Object.entries(part.dead_letters)) totals[name] = (totals[name] ?? 0) + number;
  }
  const all = Object.values(totals).reduce((sum, number) => sum + number, 0);
  const choices = [["", all], ...Object.entries(totals)];
  const make = ([name]) => h("button", { type: "button", onclick: () => choose(name) });
  keyed($("reasons"), choices, ([name]) => name, make, (button, [name, number]) => {
    const per = name ? look.rates[`dead:${name}`] : 0;
    text(button, `${name || "all"} ${count(number)}${per > 0 ? `, ${rate(per)} /s` : ""}`);
    button.setAttribute("aria-pressed", String(chosen && (reason ?? "") === name));
  });
  if (!chosen) {
    $("letters-empty").hidden = false;
    text($("letters-empty"), all ? "Choose a reason to look inside." : "None since the learner started. Choose “all” to look at older ones.");
  }
}

async function choose(name) {
  reason = name || null;
  chosen = true;
  for (const button of $("reasons").children) button.setAttribute("aria-pressed", String(button.dataset.key === name));
  $("letters-list").setAttribute("aria-busy", "true");
  try {
    const { letters } = await call("GET", `ui/data/dead-letters${reason ? `?reason=${encodeURIComponent(reason)}` : ""}`);
    problemIn("letters-error", null);
    show(letters);
  } catch (error) {
    problemIn("letters-error", error);
    show([]);
    $("letters-empty").hidden = true;
  }
  $("letters-list").removeAttribute("aria-busy");
}

function show(letters) {
  keyed($("letters-list"), letters, (letter) => letter.id, make, () => {});
  $("letters-empty").hidden = letters.length > 0;
  text($("letters-empty"), "No such letter in the topic.");
}

function make(letter) {
  const { topic, partition, offset } = letter.origin;
  const place = topic ? `${topic} ${partition}:${offset}` : "origin unknown";
  const shown = letter.value.length < letter.value_bytes ? `${bytes(letter.value_bytes)}, its beginning:` : bytes(letter.value_bytes);
  const named = !letter.field || letter.detail.startsWith(letter.field);
  const why = named ? letter.detail : `${letter.field}: ${letter.detail}`;
  return h("li", {}, h("details", {},
    h("summary", {}, h("span", {}, date(letter.append_ms)), h("span", { class: "tag" }, letter.reason || "unknown"), h("span", { class: "wrap" }, why), h("small", {}, place)),
    h("small", {}, `key ${letter.key ?? "none"}; value ${shown}`),
    h("pre", { tabindex: "0", "aria-label": `Value of letter ${letter.id}` }, letter.value || "(empty)")));
}
