/** Charts over a ring of points: an hour of them, whatever the page has been open for. */

import { decimal, marks, time } from "./format.js";

/** The last points, one for each slot of time; the newest replaces the one of its slot. */
export class Ring {
  constructor() {
    this.slotMs = 5_000;
    this.kept = 720;
    this.atMs = [];
    this.columns = new Map();
  }

  /** Take a worker's history; what this page saw before it began stays. */
  restore({ slot_ms, kept, at_ms, points }) {
    const own = this.atMs.filter((ms) => at_ms.length === 0 || ms < at_ms[0]).length;
    const room = Math.max(0, own + at_ms.length - kept);
    const columns = new Map();
    for (const [name, column] of Object.entries(points)) {
      const before = this.columns.get(name)?.slice(room, own) ?? new Array(Math.max(0, own - room)).fill(null);
      columns.set(name, [...before, ...column]);
    }
    if (at_ms.length) {
      this.atMs = [...this.atMs.slice(room, own), ...at_ms];
      this.columns = columns;
    }
    this.slotMs = slot_ms;
    this.kept = kept;
  }

  add(atMs, point) {
    const slot = (ms) => Math.floor(ms / this.slotMs);
    const last = this.atMs.at(-1);
    if (last !== undefined && slot(atMs) < slot(last)) return; // another worker's clock
    const same = last !== undefined && slot(last) === slot(atMs);
    for (const name of Object.keys(point)) {
      if (!this.columns.has(name)) this.columns.set(name, this.atMs.map(() => null));
    }
    for (const [name, column] of this.columns) {
      if (same) column.pop();
      column.push(point[name] ?? null);
      if (column.length > this.kept) column.shift();
    }
    if (same) this.atMs.pop();
    this.atMs.push(atMs);
    if (this.atMs.length > this.kept) this.atMs.shift();
  }

  data(names) {
    const none = this.atMs.map(() => null);
    return [this.atMs.map((ms) => ms / 1_000), ...names.map((name) => this.columns.get(name) ?? none)];
  }
}

const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [1, 2]];
const charts = [];

/** Draw series `[name in the ring, label]`; a band lies between two of them that have no line of their own. */
export function chart(id, ring, series, { band = null, low = 0, least = 0 } = {}) {
  const place = document.getElementById(id);
  const one = { plot: null, visible: false, draw: null };
  const build = () => {
    one.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const lines = series.map(([, label, hue], at) => ({
      label,
      stroke: hue === null ? "transparent" : colour(`--s${hue ?? at + 1}`),
      width: hue === null ? 0 : 1.5,
      dash: DASHES[at],
      points: { show: false },
      value: (_, value) => decimal(value),
    }));
    one.plot = new uPlot(
      {
        width: Math.max(200, place.clientWidth),
        height: 170,
        padding: [8, 6, 0, 0],
        cursor: { sync: { key: "moard" }, drag: { x: false, y: false }, points: { size: 5 } },
        legend: { live: true },
        scales: { y: { range: (_, min, max) => span(min, max, low, least) } },
        axes: [
          { ...axis, values: (_, splits) => splits.map((s) => time(s * 1_000).slice(0, 5)), size: 26, space: 70 },
          { ...axis, values: (_, splits) => marks(splits), size: 46 },
        ],
        series: [{ label: "At", value: (_, s) => (s === null ? "now" : time(s * 1_000)) }, ...lines],
        bands: band === null ? [] : [{ series: band, fill: colour("--band") }],
      },
      ring.data(series.map(([name]) => name)),
      place,
    );
    show();
  };
  const show = () => {
    const data = ring.data(series.map(([name]) => name));
    one.plot.setData(data);
    const last = data[0].length - 1;
    if (last >= 0 && one.plot.cursor.idx == null) one.plot.setLegend({ idx: last });
  };
  one.draw = () => one.visible && show();
  one.build = build;
  build();
  new ResizeObserver(() => one.plot.setSize({ width: Math.max(200, place.clientWidth), height: 170 })).observe(place);
  new IntersectionObserver(([entry]) => {
    one.visible = entry.isIntersecting;
    one.draw();
  }).observe(place);
  charts.push(one);
}

function span(min, max, low, least) {
  if (min === null || max === null) return [0, Math.max(1, least)];
  max = Math.max(max, least);
  const bottom = low === null ? min : Math.min(low, min);
  const room = (max - bottom || Math.abs(max) || 1) * 0.08;
  return [bottom < 0 || low === null ? bottom - room : bottom, max + room];
}

export function drawAll() {
  if (!document.hidden) charts.forEach((one) => one.draw());
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((one) => one.build()));
