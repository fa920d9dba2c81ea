// Curves over steps: bands, flags, stages behind, and the slider's step as a line.

const BOX = { left: 52, right: 12, top: 8, bottom: 20 };
const TEXT = { "font-size": 10, fill: "currentColor", stroke: "none" };

/** A drawing of a height in pixels that is as wide as its column. */
function drawing(height) {
  return svg("svg", { height, "font-family": "DejaVu Sans, Verdana, sans-serif" });
}

const widths = new WeakMap(); // of drawings: to ask the browser in every frame would cost layouts
const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) widths.set(target, contentRect.width);
  setState({});
});

/** The width of a drawing in pixels, which is followed from now on. */
function widthOf(area) {
  if (!widths.has(area)) {
    widths.set(area, area.getBoundingClientRect().width);
    sizes.observe(area);
  }
  return widths.get(area);
}

/** Empties a drawing and fits it to its column; its width in pixels. */
function cleared(area) {
  const width = Math.max(Math.round(widthOf(area)), 200);
  area.replaceChildren();
  area.setAttribute("viewBox", `0 0 ${width} ${area.getAttribute("height")}`);
  return width;
}

/** Has a drawing rendered when its width, the axis or the theme is new, moved at every change. */
function onSteps(area, render, move) {
  let drawn = "";
  onView(area, () => {
    const key = [widthOf(area), state.log, theme()].join();
    if (key !== drawn) render();
    drawn = key;
    move();
  });
}

/** The panel's curves of one run as a figure; `others` are the same panel of the other runs. */
function chart(run, panel, others) {
  const area = drawing(panel.curves.length > 1 ? 150 : 120);
  const shared = { x: null, y: null, cursor: null };
  onSteps(area, () => renderChart(area, run, panel, others, shared), () => moveCursor(shared));
  listen(area, shared, () => panel.curves, panel);
  const unit = panel.unit ? ` (${panel.unit})` : "";
  const made = figure(`${panel.title}${unit}`, area,
    `${panel.title} of ${run.name} over training steps; the table below has its numbers`);
  if (panel.curves.length > 1) made.firstChild.append(legend(panel.curves));
  made.firstChild.append(flagLegend(panel.curves));
  return made;
}

function renderChart(area, run, panel, others, shared) {
  const width = cleared(area);
  const height = Number(area.getAttribute("height"));
  shared.x = scale(stepDomain(RUNS), [BOX.left, width - BOX.right], state.log);
  const curves = [...panel.curves, ...others.flatMap((other) => other.curves)];
  const domain = valueDomain(curves, panel.log);
  shared.y = scale(domain, [height - BOX.bottom, BOX.top], panel.log);
  area.append(stagesBehind(run, shared.x, BOX.top, height - BOX.bottom));
  area.append(...axes(shared.x, shared.y, width, height));
  const id = clip(area, shared.x, BOX.top, height - BOX.bottom);
  const inside = svg("g", { "clip-path": `url(#${id})` });
  if (panel.curves.length === 1) inside.append(...others.map((o) => ghost(o.curves[0], shared)));
  inside.append(...panel.curves.flatMap((curve) => drawCurve(curve, shared)));
  shared.cursor = cursorLine(BOX.top, height - BOX.bottom);
  area.append(inside, shared.cursor);
}

/** Confines drawings to the inside of the axes; the name of the clip path. */
function clip(area, x, top, bottom) {
  const id = `clip${clip.count = (clip.count || 0) + 1}`;
  const [left, right] = x.domain.map(x);
  area.append(svg("clipPath", { id }, svg("rect",
    { x: left - 4, y: top - 4, width: right - left + 8, height: bottom - top + 8 })));
  return id;
}

/** Axes with ticks: steps below, values at the left. */
function axes(x, y, width, height) {
  const floor = height - BOX.bottom;
  const grid = { stroke: "currentColor", "stroke-opacity": 0.15 };
  const below = x.ticks((width - BOX.left) / 75).flatMap((t) => [
    svg("line", { x1: x(t), x2: x(t), y1: floor, y2: floor + 3, stroke: "currentColor" }),
    svg("text", { x: x(t), y: floor + 14, "text-anchor": "middle", ...TEXT },
      String(t)),
  ]);
  const left = y.ticks(4).flatMap((t) => [
    svg("line", { x1: BOX.left, x2: width - BOX.right, y1: y(t), y2: y(t), ...grid }),
    svg("text", { x: BOX.left - 5, y: y(t) + 3.5, "text-anchor": "end", ...TEXT }, digits(t)),
  ]);
  const line = svg("line",
    { x1: BOX.left, x2: width - BOX.right, y1: floor, y2: floor, stroke: "currentColor" });
  return [...left, line, ...below];
}

/** Tints of the stages, and boundaries with their intervals. */
function stagesBehind(run, x, top, bottom) {
  const height = bottom - top;
  const tints = run.stages.stages.map((s) => svg("rect", {
    x: x(s.from), width: Math.max(x(s.to) - x(s.from), 0), y: top, height,
    fill: DATA.style.edge[s.llc], "fill-opacity": 0.14 }));
  const cuts = run.stages.boundaries.flatMap((b) => [
    svg("rect", { x: x(b.ci95[0]), width: x(b.ci95[1]) - x(b.ci95[0]), y: top, height,
      fill: "currentColor", "fill-opacity": 0.1 }),
    svg("line", { x1: x(b.step), x2: x(b.step), y1: top, y2: bottom,
      stroke: "currentColor", "stroke-opacity": 0.6,
      "stroke-dasharray": b.strength === "weak" ? "4 3" : null }),
  ]);
  return svg("g", {}, tints, cuts);
}

/** Points of a curve that can be drawn: pixels and positions, cut where a value is missing. */
function path(curve, key, { x, y }) {
  let text = "";
  let pen = "M";
  curve.step.forEach((s, i) => {
    const value = curve[key][i];
    if (value === null || (y.log && value <= 0) || (x.log && s <= 0)) {
      pen = "M";
      return;
    }
    text += `${pen}${x(s).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  return text;
}

function drawCurve(curve, shared) {
  const colour = curve.colour || "currentColor";
  const line = svg("path", { d: path(curve, "value", shared), fill: "none", stroke: colour,
    "stroke-width": 1.5, "stroke-dasharray": curve.dash || null });
  return [band(curve, shared, colour), line, ...marks(curve, shared, colour)];
}

/** The 95 % interval as a band. */
function band(curve, { x, y }, colour) {
  const known = curve.low ? curve.step.map((_, i) => i).filter((i) => curve.low[i] !== null) : [];
  const side = (key) => known.map(
    (i) => `${x(curve.step[i]).toFixed(1)} ${y(curve[key][i]).toFixed(1)}`);
  const around = [...side("high"), ...side("low").reverse()];
  return svg("path", { d: around.length ? `M${around.join("L")}Z` : "", fill: colour,
    "fill-opacity": 0.22 });
}

/** A dot at each estimate, and a mark for each of its flags. */
function marks(curve, { x, y }, colour) {
  if (!curve.flags) return [];
  return curve.value.flatMap((value, i) => {
    if (value === null) return [];
    const [cx, cy] = [x(curve.step[i]), y(value)];
    const point = svg("circle", { cx, cy, r: 2, fill: colour });
    return [point, ...curve.flags[i].map((flag) => flagMark(flag, cx, cy))];
  });
}

/** The same curve of another run, pale. */
function ghost(curve, shared) {
  return svg("path", { d: path(curve, "value", shared), fill: "none", stroke: "currentColor",
    "stroke-opacity": 0.35, "stroke-dasharray": "2 3" });
}

/** The line at the step of the slider. */
function cursorLine(y1, y2) {
  return svg("line", { y1, y2, stroke: "currentColor", "stroke-width": 2 });
}

function moveCursor({ x, cursor }) {
  cursor.setAttribute("transform", `translate(${x(step()).toFixed(1)} 0)`);
}

/** Names of curves with a piece of their line. */
function legend(curves) {
  return html("span", { class: "legend" }, curves.map((curve) => {
    const colour = curve.colour || "currentColor";
    const piece = svg("svg", { width: 26, height: 8, "aria-hidden": "true", class: "key" },
      svg("line", { x1: 6, x2: 24, y1: 4, y2: 4, stroke: colour, "stroke-width": 2,
        "stroke-dasharray": curve.dash || null }));
    return html("span", {}, piece, ` ${curve.name}`);
  }));
}
