/** What each second brings: health, lag, outcomes, freshness, and how learning goes. */

import { $, h, keyed, meter, rows, text } from "./dom.js";
import { UNKNOWN, count, decimal, known, plural, rate, seconds, share, time } from "./format.js";

const SILENT_S = 5;
const LEVELS = { bad: "Broken", warn: "Attention", note: "Note" };
const OUTCOMES = {
  joined: "Joined to their impression",
  late_applied: "Late, amended their row",
  late_lost: "Late, row gone",
  organic: "Organic, no impression",
  duplicate: "Duplicate, dropped",
  dead_lettered: "Dead-lettered",
};

const of = (look, service) => look.parts.filter((part) => part.service === service);
const speaking = (look, service) => of(look, service).filter((part) => part.age_s <= SILENT_S);

export function showOverview(look) {
  showProblems(look.problems);
  showFigures(look);
  rows($("parts"), look.parts, (part) => `${part.service} ${part.instance}`, ["", "", "", "n", "n", "", "wrap"], (part) => [
    part.service,
    part.instance,
    state(part),
    part.age_s > SILENT_S ? `${seconds(part.age_s)} ago` : "now",
    seconds(Math.floor((part.at_ms - part.started_ms) / 1_000)),
    part.version,
    doing(part),
  ]);
}

function showProblems(problems) {
  const all = problems.length ? problems : [{ level: "ok", part: "", text: "Everything works.", remedy: "" }];
  const make = () => h("li", {}, h("b"), h("span"));
  keyed($("problems"), all, (one) => `${one.level} ${one.part} ${one.text.replace(/[\d.]+/g, "")}`, make, (item, one) => {
    item.dataset.level = one.level;
    text(item.children[0], one.level === "ok" ? one.text : `${LEVELS[one.level]}: ${one.part}. ${one.text}`);
    text(item.children[1], one.remedy.charAt(0).toUpperCase() + one.remedy.slice(1));
  });
}

function state(part) {
  const name = part.age_s > SILENT_S ? "silent" : part.health.alarms.length ? "failing" : part.health.state;
  return h("span", { class: "state", "data-state": name }, name === "failing" && part.health.alarms.length ? "alarm" : name);
}

function doing(part) {
  if (part.health.waiting_for.length) return `waits for ${part.health.waiting_for.join(", ")}`;
  if (part.service === "learner") return `${count(part.replay_rows)} rows, ${count(part.updates)} updates, checkpoint ${seconds(part.checkpoint.age_s)} ago`;
  if (part.service === "ingest") {
    const behind = part.projector.partitions.reduce((sum, one) => sum + one.lag_records, 0);
    return `${rate(part.events_per_s.accepted)} events/s, ${count(part.buffer_records)} unacknowledged; histories ${count(behind)} records behind`;
  }
  if (part.service === "serving") {
    const degraded = Object.values(part.degraded).reduce((sum, one) => sum + one, 0);
    return `${rate(part.rankings_per_s)} rankings/s over ${count(part.contents)} contents; ${count(degraded)} degraded, ${count(part.impressions.dropped)} impressions lost`;
  }
  return "";
}

function showFigures(look) {
  const point = look.point;
  const learner = speaking(look, "learner")[0];
  const ages = speaking(look, "serving").map((part) => part.snapshot.age_s).filter(known);
  const times = known(point.served) && known(point.uniform) && point.uniform > 0 ? point.served / point.uniform : null;
  const figures = [
    ["Lag", known(point.lag_records) ? plural(point.lag_records, "record") : UNKNOWN, known(point.lag_s) ? `${seconds(point.lag_s)} behind` : ""],
    ["Freshness, 95 %", seconds(point.fresh_p95), look.freshness ? `${plural(look.freshness.counts.at(-1), "click")} in 10 min` : "no clicks in 10 min"],
    ["Events", `${rate(point.events_per_s)} /s`, learner ? `${rate(point.read_per_s)} /s read` : ""],
    ["Learning", `${rate(point.updates_per_s)} /s`, learner ? `${count(learner.updates)} updates` : ""],
    ["Rankings", `${rate(point.rankings_per_s)} /s`, plural(speaking(look, "serving").length, "worker")],
    ["Oldest snapshot", ages.length ? seconds(Math.max(...ages)) : UNKNOWN, "in any worker"],
    ["Reward per request", decimal(point.served), times === null ? "no uniform arm yet" : `${decimal(times, 2)} × uniform arm`],
  ];
  keyed($("figures"), figures, ([name]) => name, ([name]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("span"), h("small"))), (item, [, value, note]) => {
    text(item.lastChild.children[0], value);
    text(item.lastChild.children[1], note);
  });
}

export function showStream(look) {
  const learners = speaking(look, "learner");
  const tellers = learners.length ? learners : speaking(look, "ingest").slice(0, 1).flatMap((part) => part.learner ?? []);
  const partitions = tellers.flatMap((teller) => teller.partitions);
  const largest = Math.max(1, ...partitions.map((one) => one.lag_records));
  rows($("partitions"), partitions, (one) => `${one.topic} ${one.partition}`, ["", "n", "n", "n", "n", "n", "n", "n"], (one) => [
    one.topic,
    String(one.partition),
    meter(one.lag_records / largest, count(one.lag_records)),
    seconds(one.lag_s),
    rate(one.read_per_s),
    rate(one.appended_per_s),
    count(one.position),
    count(one.end_offset),
  ]);
  const lag = learners[0]?.lag;
  text($("drain"), lag ? drained(lag) : partitions.length ? "no learner speaks: lag since its last checkpoint" : "no learner speaks");
  showOutcomes(look, learners);
  showFreshness(look.freshness);
}

function drained(lag) {
  if (!lag.records) return "nothing waits";
  return lag.drain_s === null ? `${count(lag.records)} wait, and more come than are read` : `${count(lag.records)} wait, drained in ${seconds(lag.drain_s)}`;
}

function showOutcomes(look, learners) {
  const total = (name) => learners.reduce((sum, learner) => sum + (learner.outcomes[name] ?? 0), 0);
  const all = Object.keys(OUTCOMES).reduce((sum, name) => sum + total(name), 0);
  rows($("outcomes"), Object.keys(OUTCOMES), (name) => name, ["", "n", "n", "n"], (name) => [
    OUTCOMES[name],
    meter(total(name) / (all || 1), learners.length ? count(total(name)) : UNKNOWN),
    all ? share(total(name) / all) : UNKNOWN,
    learners.length ? rate(look.rates[`outcome:${name}`]) : UNKNOWN,
  ]);
}

const LABELLED = new Set([0.1, 0.5, 1, 1.5, 2, 5, 20]);

function showFreshness(fresh) {
  $("freshness").hidden = !fresh;
  $("fresh-empty").hidden = Boolean(fresh);
  text($("fresh-note"), fresh ? `10 min, slowest worker; half within ${seconds(fresh.p50_s)}, 95 % within ${seconds(fresh.p95_s)}` : "");
  if (!fresh) return;
  const within = fresh.counts.map((total, at) => total - (at ? fresh.counts[at - 1] : 0));
  const most = Math.max(...within);
  const columns = within.map((clicks, at) => ({ clicks, upTo: fresh.bounds_s[at] }));
  keyed($("freshness"), columns, (one) => one.upTo ?? "more", () => h("span", { class: "column" }, h("i")), (column, one) => {
    column.title = one.upTo === undefined ? `${one.clicks} later` : `${one.clicks} up to ${seconds(one.upTo)}`;
    if (LABELLED.has(one.upTo)) column.dataset.label = `${one.upTo} s`;
    column.firstChild.style.height = `${(100 * one.clicks) / most}%`;
  });
  $("freshness").setAttribute("aria-label", `Freshness of ${fresh.counts.at(-1)} clicks: half within ${seconds(fresh.p50_s)}, 95 % within ${seconds(fresh.p95_s)}`);
}

export function showLearning(look) {
  const evaluation = speaking(look, "learner")[0]?.evaluation ?? {};
  const windows = [["window", "The last closed requests"], ["total", "Since the learner started"]].filter(([span]) => evaluation[span]);
  rows($("windows"), windows, ([span]) => span, ["", "n", "n", "n", "n", "n", "wrap"], ([span, label]) => {
    const { rows: requests, served, uniform, invalid } = evaluation[span];
    const interval = known(uniform.low) ? `${decimal(uniform.low)} to ${decimal(uniform.high)}` : UNKNOWN;
    const times = known(served) && known(uniform.value) && uniform.value > 0 ? `${decimal(served / uniform.value, 2)} ×` : UNKNOWN;
    return [label, count(requests), decimal(served), decimal(uniform.value), interval, times, believable(requests, uniform, invalid)];
  });
}

function believable(requests, uniform, invalid) {
  if (invalid.length) return `no: ${invalid.join(", ").replaceAll("_", " ")}`;
  if (!requests || !known(uniform.value)) return "not yet: too few drawn rankings";
  return `yes, worth ${count(uniform.ess)} uniform requests`;
}

export function showConnection(name, words, lookAtMs) {
  const place = $("connection");
  place.dataset.state = name;
  text(place, name === "lost" && lookAtMs ? `${words}; this is of ${time(lookAtMs)}` : words);
  document.body.toggleAttribute("data-stale", name !== "live" && Boolean(lookAtMs));
}

