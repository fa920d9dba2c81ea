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

/** All drawings and words of the page where they stand. */
function svgOfView() {
  drawAll();
  const frame = $("main").getBoundingClientRect();
  const style = getComputedStyle(document.body);
  const root = svg("svg", { xmlns: SVG, width: frame.width, height: frame.height,
    color: style.color, "font-family": "DejaVu Sans, Verdana, sans-serif" });
  root.append(svg("rect", { width: "100%", height: "100%", fill: style.backgroundColor }));
  for (const found of $("main").querySelectorAll("svg, canvas")) {
    const { x, y, width, height } = found.getBoundingClientRect();
    const box = { x: x - frame.x, y: y - frame.y, width, height };
    if (width) root.append(placed(found, box));
  }
  root.append(...linesOf($("main")).map((line) => lettered(line, frame)));
  return new XMLSerializer().serializeToString(root);
}

function placed(found, box) {
  if (found instanceof HTMLCanvasElement) {
    return svg("image", { ...box, href: found.toDataURL() });
  }
  const copy = found.cloneNode(true);
  for (const [key, value] of Object.entries(box)) copy.setAttribute(key, value);
  return copy;
}

/** The lines of text in view as the browser broke them, without those of drawings and buttons. */
function linesOf(element) {
  const lines = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.parentElement.closest("svg, button, select, summary, noscript")) continue;
    for (const word of node.data.matchAll(/\S+/g)) addWord(lines, node, word);
  }
  return lines;
}

function addWord(lines, node, { 0: word, index }) {
  const range = document.createRange();
  range.setStart(node, index);
  range.setEnd(node, index + word.length);
  const { x, y, right, height } = range.getBoundingClientRect();
  const box = node.parentElement.closest(".scroll");
  if (box && right > box.getBoundingClientRect().right) return;
  const last = lines.at(-1);
  if (last && last.node === node && last.y === y) last.text += ` ${word}`;
  else if (height) lines.push({ node, x, y, height, text: word });
}

function lettered({ node, x, y, height, text }, frame) {
  const style = getComputedStyle(node.parentElement);
  return svg("text", { x: x - frame.x, y: y - frame.y + 0.8 * height, fill: style.color,
    "font-size": style.fontSize, "font-weight": style.fontWeight }, text);
}

/** Buttons that save the view. */
function buildExport() {
  const saveSvg = () => save(fileName("svg"), "image/svg+xml", svgOfView());
  const saveCsv = () => save(fileName("csv"), "text/csv", csv());
  return [button("Save SVG", saveSvg, { id: "save-svg" }),
    button("Save CSV", saveCsv, { id: "save-csv" })];
}
