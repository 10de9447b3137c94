/** Snapshots: lineage, who serves which, and what may be done with them. */

import { Refused, call, opened } from "./calls.js";
import { $, h, keyed, problemIn, say, text } from "./dom.js";
import { bytes, count, date, plural, seconds } from "./format.js";

const FIRST = 8;
const EVERY_MS = 5_000; // the learner publishes each second; a list that changes as fast cannot be read
const CELLS = ["", "n", "n", "wrap", "", "wrap", ""];
let known = null;
let everything = false;
let workers = [];
let seen = "";
let visible = false;
let loadedMs = 0;
let loading = false;
let again = false;

/** Take in who serves what. A pin is shown at once; what the learner publishes every few seconds, while in sight. */
export function heardOfSnapshots(look) {
  workers = look.parts.filter((part) => part.service === "serving");
  const pins = JSON.stringify(workers.map(({ instance, snapshot: { pin, pinned_version, version } }) => [instance, pin, pinned_version, pin && version]));
  if (pins === seen && !(visible && !document.hidden && Date.now() - loadedMs >= EVERY_MS)) return;
  seen = pins;
  load();
}

export function watchSnapshots() {
  new IntersectionObserver(([entry]) => {
    visible = entry.isIntersecting;
  }).observe($("snapshots"));
}

/** Forget what was heard, so that the next news is taken for new. */
export function lookAgain() {
  seen = "";
}

async function load() {
  again = loading;
  if (loading) return;
  loading = true;
  loadedMs = Date.now();
  try {
    known = await call("GET", "api/v1/snapshots");
    problemIn("snapshots-error", null);
    show();
  } catch (error) {
    if (!(error instanceof Refused)) problemIn("snapshots-error", error);
    seen = "";
  }
  loading = false;
  if (again) load();
}

function show() {
  showPin();
  const all = known.snapshots;
  // What is kept, pinned or served is never behind "show all".
  const shown = everything ? all : all.filter((one, at) => at < FIRST || one.names.length || one.pinned || servers(one).length);
  const make = () => h("tr", {}, ...CELLS.map((kind) => h("td", { class: kind || null })));
  keyed($("lineage"), shown, (one) => `${one.version} ${one.sha256}`, make, (row, one) => fill(row, one, all[all.indexOf(one) + 1]));
  $("snapshots-empty").hidden = all.length > 0;
  $("all-snapshots").hidden = everything || shown.length === all.length;
  text($("all-snapshots"), `Show all ${all.length}`);
}

function showPin() {
  const place = $("pin");
  const words = known.pinned === null ? "The newest snapshot ranks; nothing is pinned." : `${known.pinned} is pinned (by ${known.pinned_by}): nothing newer ranks.`;
  if (place.dataset.words === words) return;
  place.dataset.words = words;
  place.replaceChildren(h("span", {}, words), ...(known.pinned === null ? [] : [h("button", { type: "button", onclick: unpin }, "Unpin")]));
}

const servers = (one) => workers.filter((worker) => worker.snapshot.version === one.version).map((worker) => worker.instance);

function fill(row, one, older) {
  const learned = older && older.epoch === one.epoch ? `+${plural(one.step - older.step, "update")}` : older ? `learner ${one.epoch}, after ${older.epoch}` : `learner ${one.epoch}`;
  const from = Object.entries(one.offsets).filter(([place]) => place.startsWith("moard.events:")).reduce((sum, [, offset]) => sum + offset, 0);
  const cells = [
    date(one.version),
    seconds(one.age_s),
    count(one.step),
    `${learned}, ${plural(from, "event")} in it, ${bytes(one.size_bytes)}`,
    null,
    servers(one).join(", "),
    null,
  ];
  cells.forEach((cell, at) => cell !== null && text(row.children[at], cell));
  row.children[0].title = `version ${one.version}, sha256 ${one.sha256}`;
  const flags = [one.pinned && "pinned", one.current && "newest", !one.stored && "only in SQL"].filter(Boolean);
  const names = one.names.map((name) => h("span", { class: "tag" }, name));
  replace(row.children[4], [...flags.map((flag) => h("span", { class: flag === "pinned" ? "tag on" : "tag" }, flag)), ...names]);
  const wanted = `${one.pinned} ${one.names}`;
  if (row.dataset.actions === wanted) return;
  row.dataset.actions = wanted;
  row.children[6].replaceChildren(h("span", { class: "actions" }, ...actions(one)));
}

function replace(cell, nodes) {
  const key = nodes.map((node) => node.outerHTML).join("");
  if (cell.dataset.key === key) return;
  cell.dataset.key = key;
  cell.replaceChildren(...nodes);
}

function actions(one) {
  const what = one.names[0] ?? date(one.version);
  const button = (label, act, about) => h("button", { type: "button", onclick: act, "aria-label": `${label} ${about}` }, label);
  return [
    ...(one.pinned ? [] : [button("Pin", () => pin(one), what)]),
    button("Keep", () => keep(one), what),
    ...one.names.filter(() => !one.pinned).map((name) => button(one.names.length > 1 ? `Delete ${name}` : "Delete", () => remove(name), name)),
  ];
}

async function confirmed({ title, words, verb, name = false }) {
  text($("confirm-title"), title);
  text($("confirm-text"), words);
  text($("confirm-yes"), verb);
  $("confirm-label").hidden = !name;
  $("confirm-name").required = name;
  $("confirm-name").value = "";
  return (await opened($("confirm"))) === "yes";
}

async function act(method, path) {
  try {
    const answer = await call(method, path);
    say(answer.message);
  } catch (error) {
    say(error.message, true);
  }
  load();
}

async function pin(one) {
  const words = `Every worker ranks with the snapshot of ${date(one.version)} (${count(one.step)} updates) until it is unpinned. Learning goes on.`;
  if (await confirmed({ title: `Pin ${one.names[0] ?? "this snapshot"}?`, words, verb: "Pin it" })) {
    await act("POST", `api/v1/snapshots/${one.version}/pin`);
  }
}

async function unpin() {
  const words = "Every worker ranks with the newest snapshot again, and follows the learner.";
  if (await confirmed({ title: `Unpin ${known.pinned}?`, words, verb: "Unpin" })) await act("DELETE", "api/v1/snapshots/pin");
}

async function keep(one) {
  const words = "It stays beyond retention and an emptied Redis, under this name.";
  if (await confirmed({ title: `Keep the snapshot of ${date(one.version)}`, words, verb: "Keep it", name: true })) {
    await act("POST", `api/v1/snapshots/${one.version}/keep?name=${encodeURIComponent($("confirm-name").value)}`);
  }
}

async function remove(name) {
  const words = "It cannot be brought back once retention has let its snapshot go.";
  if (await confirmed({ title: `Delete ${name}?`, words, verb: "Delete" })) await act("DELETE", `api/v1/model/${encodeURIComponent(name)}`);
}

$("all-snapshots").addEventListener("click", () => {
  everything = true;
  show();
});
