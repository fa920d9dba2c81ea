// Flags: a red and hollow mark at a flagged point, whose shape says which flag, as in the figures.

const MARK = 4.5; // pixels from the middle of a mark to its corners

/** A closed outline of corners around the middle, the first at an angle from the top. */
function outline(corners, angle = 0, radii = [MARK]) {
  const points = Array.from({ length: corners }, (_, i) => {
    const turn = ((angle + (360 * i) / corners) * Math.PI) / 180;
    const radius = radii[i % radii.length];
    return `${(radius * Math.sin(turn)).toFixed(1)} ${(-radius * Math.cos(turn)).toFixed(1)}`;
  });
  return `M${points.join("L")}Z`;
}

const OUTLINES = { // by the name that the marker has in the figures
  "^": outline(3),
  v: outline(3, 180),
  p: outline(5),
  h: outline(6),
  s: outline(4, 45),
  D: outline(4),
  "*": outline(10, 0, [MARK, 0.4 * MARK]),
  x: "M-3.5 -3.5l7 7m0 -7l-7 7",
  "+": "M-4.5 0h9m-4.5 -4.5v9",
  X: outline(12, 15, [MARK, MARK, 0.4 * MARK]),
};

/** The mark of a flag at a point. */
function flagMark(flag, x, y) {
  const marker = DATA.style.flag_markers[flag] || "X";
  return svg("path", { d: OUTLINES[marker], transform: `translate(${x} ${y})`, fill: "none",
    stroke: DATA.style.flag, "stroke-width": 1.4, "data-flag": flag });
}

/** The flags that are raised somewhere on the curves, each once. */
function raisedOn(curves) {
  return [...new Set(curves.flatMap((curve) => (curve.flags || []).flat()))];
}

/** What the marks of a panel stand for. */
function flagLegend(curves) {
  return html("span", { class: "legend" }, raisedOn(curves).map((flag) => {
    const key = svg("svg", { width: 12, height: 12, "aria-hidden": "true", class: "key" },
      flagMark(flag, 6, 6));
    return html("span", {}, key, ` ${underscored(flag)}`);
  }));
}
