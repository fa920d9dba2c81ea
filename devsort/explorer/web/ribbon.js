// The stages as a ribbon, with boundaries, their intervals, and events below.

const RIBBON = { top: 4, height: 26, line: 14 };

/** The name of a stage, or the direction of its LLC where no name is earned. */
function stageTitle(stage) {
  return stage.name === "unnamed" ? `LLC ${stage.llc}` : stage.name;
}

/** The stage at a step: its number from 1 and itself, or null. */
function stageAt(run, at) {
  const index = run.stages.stages.findIndex((s) => at >= s.from && at <= s.to);
  return index < 0 ? null : { number: index + 1, stage: run.stages.stages[index] };
}

/** The ribbon of a run as a figure. */
function ribbon(run) {
  const lines = largest(RUNS.map((one) => one.stages.events.length));
  const area = drawing(RIBBON.top + RIBBON.height + 8 + RIBBON.line * lines);
  const shared = {};
  onSteps(area, () => renderRibbon(area, run, shared), () => moveCursor(shared));
  area.addEventListener("click", (event) => goTo(area, shared, event));
  const names = run.stages.stages.map((s, i) =>
    `stage ${i + 1}, ${stageTitle(s)}, steps ${digits(s.from)} to ${digits(s.to)}`);
  return figure("stages (LLC rising: violet, falling: green, flat: grey), " +
    "boundaries (weak: dashed) with 95 % intervals, events", area, names.join("; "));
}

function renderRibbon(area, run, shared) {
  const width = cleared(area);
  const x = scale(stepDomain(RUNS), [BOX.left, width - BOX.right], state.log);
  const bottom = RIBBON.top + RIBBON.height;
  area.append(...run.stages.stages.flatMap((s, i) => ribbonStage(s, i, x)));
  area.append(...run.stages.boundaries.flatMap((b) => ribbonBoundary(b, x, bottom)));
  const sorted = [...run.stages.events].sort((a, b) => a.step - b.step);
  area.append(...sorted.flatMap((e, row) => ribbonEvent(e, row, x, width)));
  shared.x = x;
  shared.cursor = cursorLine(0, bottom + 4); // not through the labels of the events
  area.append(shared.cursor);
}

function ribbonStage(stage, i, x) {
  const [left, right] = [x(stage.from), x(stage.to)];
  const colour = DATA.style.edge[stage.llc];
  const words = `${i + 1} ${stageTitle(stage)}`;
  const fits = words.length * 6.2 < right - left;
  const hover = svg("title", {}, `${words}: steps ${digits(stage.from)} to ${digits(stage.to)}, ` +
    `LLC ${digits(stage.llc_from)} to ${digits(stage.llc_to)}, loss ${stage.loss || "unknown"}`);
  return [
    svg("rect", { x: left, width: Math.max(right - left, 0), y: RIBBON.top, height: RIBBON.height,
      fill: colour, "fill-opacity": 0.28, stroke: colour, "stroke-opacity": 0.5 }, hover),
    svg("text", { x: (left + right) / 2, y: RIBBON.top + 16, "text-anchor": "middle", ...TEXT,
      "pointer-events": "none" }, fits ? words : String(i + 1)),
  ];
}

function ribbonBoundary(boundary, x, bottom) {
  const [low, high] = boundary.ci95.map(x);
  const weak = boundary.strength === "weak";
  const hover = svg("title", {}, `${weak ? "weak " : ""}boundary at step ` +
    digits(boundary.step, 4) + between(...boundary.ci95));
  return [
    svg("line", { x1: low, x2: high, y1: bottom - 3, y2: bottom - 3, stroke: "currentColor",
      "stroke-width": 3 }, hover),
    svg("line", { x1: x(boundary.step), x2: x(boundary.step), y1: RIBBON.top, y2: bottom,
      stroke: "currentColor", "stroke-width": 1.5, "stroke-dasharray": weak ? "4 3" : null }),
  ];
}

function ribbonEvent(event, row, x, width) {
  const y = RIBBON.top + RIBBON.height + 9 + RIBBON.line * row;
  const at = x(event.step);
  const [low, high] = (event.ci95 || [event.step, event.step]).map(
    (s) => Math.min(Math.max(x(s), BOX.left), width - BOX.right));
  const left = at > width * 0.6;
  const label = `${underscored(event.event)}, step ${digits(event.step)}`;
  return [
    svg("line", { x1: low, x2: high, y1: y, y2: y, stroke: "currentColor", "stroke-width": 2 }),
    svg("path", { d: `M${at} ${y - 4}l4 4l-4 4l-4 -4Z`, fill: "currentColor" }),
    svg("text", { x: left ? low - 7 : high + 7, y: y + 3.5, "text-anchor": left ? "end" : "start",
      ...TEXT }, label),
  ];
}
