/** The console: follow the stream, show what it says. */

import { follow } from "./calls.js";
import { Ring, chart, drawAll } from "./charts.js";
import { heardOfLetters } from "./letters.js";
import { heardOfSettings } from "./settings.js";
import { heardOfSnapshots, lookAgain, watchSnapshots } from "./snapshots.js";
import { watchTasks } from "./tasks.js";
import { showConnection, showLearning, showOverview, showStream } from "./views.js";

const ring = new Ring();
let lookAtMs = 0;

chart("chart-lag", ring, [["lag_records", "records"]], { least: 10 });
chart("chart-rates", ring, [["events_per_s", "into ingest"], ["read_per_s", "read by the learner"], ["rankings_per_s", "rankings"]]);
chart("chart-clicks", ring, [["served", "served"], ["uniform", "uniform"], ["uniform_high", "95 % high", null], ["uniform_low", "low", null]], { band: [3, 4] });
chart("chart-loss", ring, [["loss_total", "total"], ["loss_u", "U"], ["loss_n", "N"], ["loss_a", "A"], ["loss_choice", "choice"]]);
chart("chart-q", ring, [["q_mean", "mean"], ["q_max", "max"]], { low: null });
chart("chart-fresh", ring, [["fresh_p95", "95 %"], ["fresh_p50", "half"]]);

function heard(name, data) {
  if (name === "history") {
    ring.restore(data);
    lookAgain();
    return;
  }
  lookAtMs = data.at_ms;
  ring.add(data.at_ms, data.point);
  showOverview(data);
  showStream(data);
  showLearning(data);
  heardOfSnapshots(data);
  heardOfLetters(data);
  heardOfSettings(data);
  drawAll();
}

function markView() {
  const links = [...document.querySelectorAll("nav a")];
  const seen = new Set();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) seen[isIntersecting ? "add" : "delete"](target.id);
      const first = links.find((link) => seen.has(link.hash.slice(1)));
      for (const link of links) {
        if (link === first) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    },
    { rootMargin: "-90px 0px -55% 0px" },
  );
  document.querySelectorAll("main > section").forEach((section) => observer.observe(section));
}

markView();
watchTasks();
watchSnapshots();
follow(heard, (name, words) => showConnection(name, words, lookAtMs));
