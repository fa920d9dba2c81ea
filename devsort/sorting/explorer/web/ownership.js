// Which head each number needs and which head suppresses it, over training and at this step.

const FULL_COLOUR = 4; // nats of loss at which a head's colour is at its full strength

/** The measures of a run's heads by number, unpacked once: {shape [C, H, N], values}. */
function measuresOf(run) {
  const { heads } = run.sorter;
  if (!heads.opened) {
    const names = ["loss_increase", "copy_effect", "copies", "suppresses", "needed"];
    heads.opened = Object.fromEntries(names.map((name) => [name, unpack(heads[name])]));
  }
  return heads.opened;
}

/** A head's row of a measure at a checkpoint. */
function rowOf({ shape: [, heads, numbers], values }, checkpoint, head) {
  const start = (checkpoint * heads + head) * numbers;
  return values.subarray(start, start + numbers);
}

function ownershipColumn(run, place) {
  const map = drawing(190);
  const shared = {};
  onSteps(map, () => renderMap(map, run, shared), () => moveCursor(shared));
  map.addEventListener("click", (event) => goTo(map, shared, event));
  const keys = headsOf(run).map((head) =>
    ({ name: `head ${head}`, colour: headColour(head), dash: "" }));
  const made = figure(
    "which head each number (upwards) needs, over training steps; pale: little is lost ", map,
    `ownership of numbers by heads of ${run.name} over training`);
  made.firstChild.append(legend(keys));
  place.append(made,
    byNumber(run, "loss_increase", "needed",
      "rise of loss without the head (nats), by number; bar above: the head is needed"),
    byNumber(run, "copy_effect", "suppresses",
      "copy effect of the head (logits), by number; below zero and bar above: it suppresses"));
}

/** Number by step, each head's colour in its share of the need. */
function renderMap(area, run, shared) {
  const width = cleared(area);
  const height = Number(area.getAttribute("height"));
  const numbers = run.sorter.numbers;
  shared.x = scale(stepDomain(RUNS), [BOX.left, width - BOX.right], state.log);
  const y = scale([0, numbers], [height - BOX.bottom, BOX.top], false);
  const id = clip(area, shared.x, BOX.top, height - BOX.bottom);
  const inside = svg("g", { "clip-path": `url(#${id})` });
  const edges = stepEdges(run.sorter.heads.step);
  run.sorter.heads.step.forEach((_, c) => inside.append(mapColumn(run, c, edges, shared.x, y)));
  shared.cursor = cursorLine(BOX.top, height - BOX.bottom);
  area.append(inside, ...axes(shared.x, y, width, height), shared.cursor);
}

/** Edges between checkpoints: geometric means of neighbours. */
function stepEdges(steps) {
  const middle = steps.slice(1).map((s, i) => Math.sqrt(s * steps[i]));
  return [Math.max(steps[0] / 1.05, 0.5), ...middle, steps.at(-1) * 1.05];
}

/** A checkpoint's numbers as an image of one column: a rectangle for each would be thousands. */
function mapColumn(run, checkpoint, edges, x, y) {
  const numbers = run.sorter.numbers;
  const colours = ownerColours(run, checkpoint);
  const canvas = html("canvas", { width: 1, height: numbers });
  const small = cells({}, [numbers, 1], (i) => colours[numbers - 1 - i]);
  canvas.getContext("2d").drawImage(small, 0, 0);
  const [left, right] = [x(edges[checkpoint]), x(edges[checkpoint + 1])];
  return svg("image", { x: left, width: right - left + 0.5, y: y(numbers),
    height: y(0) - y(numbers), preserveAspectRatio: "none", href: canvas.toDataURL(),
    "image-rendering": "pixelated" });
}

/** The pixel of each number, as in the ownership figure. */
function ownerColours(run, checkpoint) {
  const measure = measuresOf(run).loss_increase;
  const [, heads, numbers] = measure.shape;
  const page = rgb(PAGE[theme()]);
  const palette = Array.from({ length: heads }, (_, head) => rgb(headColour(head)));
  const rows = palette.map((_, head) => rowOf(measure, checkpoint, head));
  return Array.from({ length: numbers }, (_, n) => {
    const need = rows.map((row) => Math.max(row[n], 0));
    const total = Math.max(sum(need), 1e-9);
    const depth = Math.min(largest(need) / FULL_COLOUR, 1);
    return asPixel(page.map((c, k) => Math.round(
      depth * sum(need.map((v, h) => (v / total) * palette[h][k])) + (1 - depth) * c)));
  });
}

/** Ends of a measure over all steps and runs. */
function measureDomain(measure) {
  const ends = RUNS.filter((run) => run.sorter).flatMap((run) => {
    const values = Array.from(measuresOf(run)[measure].values).filter(Number.isFinite);
    return [smallest(values), largest(values)];
  });
  return [Math.min(0, smallest(ends)), largest(ends)];
}

/** A measure of each head by number at the step of the slider; a bar below where a mask holds. */
function byNumber(run, measure, mask, caption) {
  const area = drawing(110);
  const heads = headsOf(run);
  const domain = measureDomain(measure);
  const lines = heads.map((head) => svg("path", { fill: "none", stroke: headColour(head),
    "stroke-width": 1.6, "stroke-dasharray": head % 2 ? "5 2" : null }));
  const masks = heads.map((head) => svg("path", { fill: headColour(head) }));
  const shared = {};
  onSteps(area, () => {
    const width = cleared(area);
    shared.x = scale([0, run.sorter.numbers], [BOX.left, width - BOX.right], false);
    shared.y = scale(domain, [110 - BOX.bottom, BOX.top + 8], false);
    area.append(...axes(shared.x, shared.y, width, 110), ...lines, ...masks);
  }, () => {
    const c = nearest(run.sorter.heads.step, step());
    const found = measuresOf(run);
    heads.forEach((head) => {
      lines[head].setAttribute("d", stairs(rowOf(found[measure], c, head), shared));
      masks[head].setAttribute("d", maskPath(rowOf(found[mask], c, head), head, shared));
    });
  });
  return figure(caption, area, `${caption}, ${run.name}`);
}

function stairs(values, { x, y }) {
  let text = "";
  values.forEach((v, n) => {
    if (!Number.isFinite(v)) return;
    text += `${text ? "L" : "M"}${x(n).toFixed(1)} ${y(v).toFixed(1)}H${x(n + 1).toFixed(1)}`;
  });
  return text;
}

/** Bars above the axes where a mask holds. */
function maskPath(mask, head, { x }) {
  const top = 2 + 4 * head;
  const bar = (n) => {
    const [left, right] = [x(n).toFixed(1), x(n + 1).toFixed(1)];
    return `M${left} ${top}H${right}V${top + 3}H${left}Z`;
  };
  return Array.from(mask, (holds, n) => (holds ? bar(n) : "")).join("");
}

sections.push({
  title: "Who owns which number",
  text: "From ablation and attention on evaluation lists, at every saved checkpoint.",
  needs: "sorter",
  column: ownershipColumn,
});
forTests.measuresOf = measuresOf;
