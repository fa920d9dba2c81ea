// Axes: values to pixels, and round numbers to label them with.

/** Maps `domain` to `range`, linearly or by log10; `back` is its inverse. */
function scale(domain, range, log) {
  const to = log ? Math.log10 : (value) => value;
  const from = log ? (value) => 10 ** value : (value) => value;
  const [low, high] = domain.map(to);
  const slope = (range[1] - range[0]) / (high - low || 1);
  const map = (value) => range[0] + (to(value) - low) * slope;
  map.back = (pixel) => from(low + (pixel - range[0]) / slope);
  map.ticks = (count) => (log ? logTicks(domain, count) : linearTicks(domain, count));
  map.log = log;
  map.domain = domain;
  return map;
}

function linearTicks([low, high], count) {
  const rough = (high - low) / Math.max(count, 1);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 },
    (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function logTicks([low, high], count) {
  const decades = Math.log10(high / low);
  const within = decades > count ? [1] : decades > count / 3 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    ticks.push(...within.map((m) => m * 10 ** power));
  }
  const thin = Math.max(1, Math.ceil(ticks.length / (2 * count)));
  return ticks.filter((t, i) => t >= low * 0.999 && t <= high * 1.001 && i % thin === 0);
}

/** Ends of a panel's values over all runs: intervals count where the estimate is not flagged. */
function valueDomain(curves, log) {
  const seen = [];
  for (const curve of curves) {
    curve.value.forEach((value, i) => {
      if (value === null || (log && value <= 0)) return;
      seen.push(value);
      const sound = !curve.flags || curve.flags[i].length === 0;
      if (curve.low && curve.low[i] !== null && sound) seen.push(curve.low[i], curve.high[i]);
    });
  }
  if (!seen.length) return [0, 1];
  const [low, high] = [smallest(seen), largest(seen)];
  if (log) return [low / 1.15, high * 1.15];
  const room = 0.05 * (high - low || Math.abs(high) || 1);
  return [low >= 0 ? 0 : low - room, high + room];
}

/** The steps of the time line: those of the stages, over all runs. */
function stepDomain(runs) {
  const ends = runs.flatMap((run) => run.stages.stages.flatMap((s) => [s.from, s.to]));
  return [smallest([...ends, ...runs.map((r) => r.frames[0])]),
    largest([...ends, ...runs.map((r) => r.frames.at(-1))])];
}
