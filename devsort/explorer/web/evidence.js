// Evidence: the chains behind each LLC, and what made the page.

const SMOOTH = 10; // draws of the running mean over the raw draws

/** The chains of a run at the step of the slider, for one restriction at a time. */
function traces(run) {
  const found = run.traces;
  const choice = html("select", { "aria-label": `chains of ${run.name}` },
    found.restrictions.map((name, i) => html("option", { value: i }, name)));
  const area = drawing(190);
  let values = null;
  const draw = () => {
    values = values || unpack(found.values);
    renderTraces(area, run, values, Number(choice.value));
  };
  choice.addEventListener("change", () => setState({}));
  onView(area, draw);
  const made = figure("L(w) − L(w*) in nats along each chain, by step of the sampler ", area,
    `chains of the sampler of ${run.name} at the step of the slider`);
  const burnin = html("span", { class: "quiet" });
  onView(burnin, () => { burnin.textContent = burninText(found, Number(choice.value)); });
  made.firstChild.append(choice, burnin);
  return made;
}

/** How long burn-in was, and how much of it is drawn. */
function burninText(found, restriction) {
  const { step: steps, burnin, burnin_steps: all, steps_bw_draws: spacing } = found;
  const frame = nearest(steps, step());
  const [length, every] = [all[frame][restriction], spacing[frame][restriction]];
  const drawn = length > burnin ? `, the last ${burnin} drawn` : "";
  const apart = every > 1 ? `; then a draw every ${every} steps` : "";
  return ` shaded: burn-in of ${length} steps${drawn}${apart}`;
}

function renderTraces(area, run, { shape, values }, restriction) {
  const width = cleared(area);
  const [, restrictions, chains, length] = shape;
  const frame = nearest(run.traces.step, step());
  const start = (frame * restrictions + restriction) * chains * length;
  const every = Array.from({ length: chains }, (_, c) =>
    values.subarray(start + c * length, start + (c + 1) * length));
  const seen = every.flatMap((chain) => Array.from(chain).filter(Number.isFinite));
  const { burnin, steps_bw_draws: spacing } = run.traces;
  const time = (t) => t + Math.max(0, t - burnin) * (spacing[frame][restriction] - 1);
  const x = scale([0, time(length)], [BOX.left, width - BOX.right], false);
  const ends = [Math.min(smallest(seen), 0), Math.max(largest(seen), 1e-6)];
  const y = scale(ends, [170, BOX.top], false);
  area.append(svg("rect", { x: x(0), width: x(burnin) - x(0), y: BOX.top,
    height: 170 - BOX.top, fill: "currentColor", "fill-opacity": 0.08 }));
  area.append(...axes(x, y, width, 190));
  for (const chain of every) area.append(...drawChain(chain, (t) => x(time(t)), y));
}

function drawChain(chain, x, y) {
  const line = (values) => values.reduce((text, v, t) => (Number.isFinite(v) ?
    `${text}${text ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}` : text), "");
  const look = { fill: "none", stroke: "currentColor" };
  return [
    svg("path", { d: line(chain), ...look, "stroke-opacity": 0.18, "stroke-width": 0.6 }),
    svg("path", { d: line(smoothed(chain)), ...look, "stroke-opacity": 0.75 }),
  ];
}

/** Mean of the last SMOOTH values at each; NaN where there are fewer. */
function smoothed(chain) {
  let total = 0;
  return chain.map((v, t) => {
    total += v - (t >= SMOOTH ? chain[t - SMOOTH] : 0);
    return t >= SMOOTH - 1 ? total / SMOOTH : NaN;
  });
}

/** Config, checksums and version. */
function about(run) {
  return html("details", {}, html("summary", {}, "config and version that made this"),
    html("pre", {}, JSON.stringify(run.about, null, 1)));
}
