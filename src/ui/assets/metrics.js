// The server's own metrics, read every few seconds and kept for a while: rates and quantiles come from the differences.

import { text } from "./api.js";

const KEPT = 120;
export const PERIOD = 2000;

// [{name, labels, value}] of the text format.
export function parse(exposition) {
  const samples = [];
  for (const line of exposition.split("\n")) {
    if (!line || line[0] === "#") continue;
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, key, value] of (found[2] ?? "").matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
      labels[key] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    }
    samples.push({ name: found[1], labels, value: Number(found[3].replace("Inf", "Infinity")) });
  }
  return samples;
}

export class History {
  // Newest last: {at, of: Map(name -> samples)}.
  readings = [];

  add(exposition, at = Date.now()) {
    const of = new Map();
    for (const sample of parse(exposition)) {
      if (!of.has(sample.name)) of.set(sample.name, []);
      of.get(sample.name).push(sample);
    }
    this.readings.push({ at, of });
    if (this.readings.length > KEPT) this.readings.shift();
  }

  async read() { this.add(await text("/metrics")); }

  now(name, matches = () => true) {
    const last = this.readings.at(-1);
    return (last?.of.get(name) ?? []).filter((sample) => matches(sample.labels));
  }

  // The sum of a counter's growth per second between each two readings.
  rates(name, matches = () => true) {
    const sum = (r) => (r.of.get(name) ?? []).reduce((all, one) => all + (matches(one.labels) ? one.value : 0), 0);
    return this.between((a, b, seconds) => Math.max(0, sum(b) - sum(a)) / seconds);
  }

  // A quantile of what a histogram saw between each two readings; NaN where it saw nothing.
  quantiles(name, quantile, matches = () => true) {
    const buckets = (reading) => {
      const sums = new Map();
      for (const { labels, value } of reading.of.get(`${name}_bucket`) ?? []) {
        if (!matches(labels)) continue;
        const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
        sums.set(bound, (sums.get(bound) ?? 0) + value);
      }
      return sums;
    };
    return this.between((a, b) => {
      const [before, after] = [buckets(a), buckets(b)];
      const grown = [...after].map(([bound, n]) => [bound, n - (before.get(bound) ?? 0)]).sort((x, y) => x[0] - y[0]);
      const total = grown.at(-1)?.[1] ?? 0;
      if (total <= 0) return NaN;
      let [lower, seen] = [0, 0];
      for (const [bound, upTo] of grown) {
        if (upTo >= quantile * total) {
          if (bound === Infinity) return lower;
          return lower + ((bound - lower) * (quantile * total - seen)) / Math.max(1, upTo - seen);
        }
        [lower, seen] = [bound, upTo];
      }
      return NaN;
    });
  }

  between(difference) {
    const points = [];
    for (let i = 1; i < this.readings.length; i++) {
      const [a, b] = [this.readings[i - 1], this.readings[i]];
      points.push({ at: b.at, value: difference(a, b, Math.max(0.001, (b.at - a.at) / 1000)) });
    }
    return points;
  }
}
