/** Settings in force of every instance, without secrets. */

import { Refused, call } from "./calls.js";
import { $, h, keyed, problemIn, rows } from "./dom.js";

let known = {};
let instances = "";

/** Ask for the settings when another instance, or one that began anew, speaks. */
export async function heardOfSettings(look) {
  const now = look.parts.map((part) => `${part.service} ${part.instance} ${part.started_ms}`).join("\n");
  if (now === instances) return;
  instances = now;
  try {
    known = await call("GET", "ui/data/settings");
    problemIn("settings-error", null);
    show();
  } catch (error) {
    instances = "";
    if (!(error instanceof Refused)) problemIn("settings-error", error);
  }
}

function show() {
  const wanted = $("settings-filter").value.trim().toUpperCase().replaceAll(" ", "_");
  const make = ([name]) => h("details", {}, h("summary", {}, name), h("table", {}, h("tbody")));
  keyed($("settings-list"), Object.entries(known), ([name]) => name, make, (details, [, settings]) => {
    const found = Object.entries(settings).filter(([variable]) => variable.includes(wanted));
    rows(details.querySelector("tbody"), found, ([variable]) => variable, ["", ""], ([variable, value]) => [variable, printed(value)]);
    if (wanted) details.open = found.length > 0;
  });
}

function printed(value) {
  if (value === null || value === "") return "not set";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

$("settings-filter").addEventListener("input", show);
