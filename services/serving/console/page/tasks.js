/** Training tasks, asked for while they are in sight. */

import { Refused, call } from "./calls.js";
import { $, h, meter, problemIn, rows } from "./dom.js";
import { count, date, decimal } from "./format.js";

const EVERY_MS = 5_000;
let visible = false;
let asked = false;

async function load() {
  if (!visible || document.hidden || asked) return;
  asked = true;
  try {
    const tasks = await call("GET", "api/v1/online-learning/tasks");
    problemIn("tasks-error", null);
    $("tasks-empty").hidden = tasks.length > 0;
    rows($("tasks-list"), tasks, (task) => task.task_id, ["", "", "n", "n", "wrap"], (task) => [
      date(Date.parse(task.start_time)),
      h("span", { class: "state", "data-state": task.status }, task.status),
      meter(task.total_interactions ? task.processed_interactions / task.total_interactions : task.status === "completed" ? 1 : 0, `${count(task.processed_interactions)} of ${count(task.total_interactions)}`),
      decimal(task.total_loss),
      task.error ?? `${task.message}${task.save_path ? ` (${task.save_path})` : ""}`,
    ]);
  } catch (error) {
    if (!(error instanceof Refused)) problemIn("tasks-error", error);
  }
  asked = false;
}

export function watchTasks() {
  new IntersectionObserver(([entry]) => {
    visible = entry.isIntersecting;
    load();
  }).observe($("tasks"));
  setInterval(load, EVERY_MS);
}
