// The present view as files: SVG of all drawings, CSV of all numbers.

/** Further rows of the CSV: functions that give [run, panel, series, step, value]. */
const moreRows = [];

function save(name, type, text) {
  const link = html("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const fileName = (kind) => `devsort-step-${step()}.${kind}`;

/** Every curve at every step, and what the sections add at the step of the slider. */
function csv() {
  const head = ["run", "panel", "series", "step", "value", "ci95_low", "ci95_high", "rhat", "ess",
    "flags"];
  const rows = RUNS.flatMap((run) => run.panels.flatMap((panel) => panel.curves.flatMap((curve) =>
    curve.step.map((at, i) => [run.name, panel.title, curve.name, at, curve.value[i],
      ...["low", "high", "rhat", "ess"].map((key) => (curve[key] ? curve[key][i] : null)),
      curve.flags ? curve.flags[i].join(" ") : ""]))));
  const all = [head, ...rows, ...moreRows.flatMap((give) => give())];
  return all.map((row) => row.map(csvCell).join(",")).join("\n") + "\n";
}

/** Text is quoted, and never begins like a formula. */
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return `"${text.replaceAll('"', '""')}"`;
}

/** All drawings of the page where they stand, with headings and captions. */
function svgOfView() {
  drawAll();
  const frame = $("main").getBoundingClientRect();
  const style = getComputedStyle(document.body);
  const root = svg("svg", { xmlns: SVG, width: frame.width, height: frame.height,
    color: style.color, "font-family": "DejaVu Sans, Verdana, sans-serif" });
  root.append(svg("rect", { width: "100%", height: "100%", fill: style.backgroundColor }));
  for (const found of $("main").querySelectorAll("h2, h3, figcaption, figure > svg, canvas")) {
    const box = found.getBoundingClientRect();
    if (box.width) root.append(placed(found, box.x - frame.x, box.y - frame.y, box));
  }
  return new XMLSerializer().serializeToString(root);
}

function placed(found, x, y, { width, height }) {
  if (found instanceof SVGElement) {
    const copy = found.cloneNode(true);
    const box = Object.entries({ x, y, width, height });
    for (const [key, value] of box) copy.setAttribute(key, value);
    return copy;
  }
  if (found instanceof HTMLCanvasElement) {
    return svg("image", { x, y, width, height, href: found.toDataURL() });
  }
  const size = Number.parseFloat(getComputedStyle(found).fontSize);
  return svg("text", { x, y: y + size * 1.1, "font-size": size, fill: "currentColor" },
    found.textContent);
}

/** Buttons that save the view. */
function buildExport() {
  const saveSvg = () => save(fileName("svg"), "image/svg+xml", svgOfView());
  const saveCsv = () => save(fileName("csv"), "text/csv", csv());
  return [button("Save SVG", saveSvg, { id: "save-svg" }),
    button("Save CSV", saveCsv, { id: "save-csv" })];
}
