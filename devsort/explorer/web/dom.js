// Elements and numbers for a reader. What comes from the data only ever becomes a text node.

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

/** An HTML element with attributes and children; a child that is no element becomes text. */
function html(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same in SVG. */
function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat());
  return element;
}

/** A button; `pressed` makes it a switch. */
function button(label, act, attributes = {}) {
  const made = html("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", act);
  return made;
}

/** A number to some digits; an en dash where there is none. */
function digits(value, count = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size >= 1e6 || (size !== 0 && size < 1e-3)) {
    return sign + size.toExponential(1).replace(".0e", "e").replace("e-", "e−");
  }
  return sign + Number(size.toPrecision(Math.max(count, String(Math.trunc(size)).length)));
}

/** An interval in brackets; nothing where there is none. */
function between(low, high) {
  return low === null || low === undefined ? "" : ` (${digits(low)} to ${digits(high)})`;
}

/** A figure with its caption, for a drawing. */
function figure(caption, area, label = caption) {
  area.setAttribute("role", "img");
  area.setAttribute("aria-label", label);
  return html("figure", {}, html("figcaption", {}, caption), area);
}

/** A table of text; the first row is its head, the first column names the rows. */
function table(head, rows, attributes = {}) {
  const line = (row) => html("tr", {}, row.map(
    (cell, i) => (i ? html("td", {}, cell) : html("th", { scope: "row" }, cell))));
  return html("table", attributes,
    html("thead", {}, html("tr", {}, head.map((cell) => html("th", { scope: "col" }, cell)))),
    html("tbody", {}, rows.map(line)));
}

/** Shows a table in a place; one of the same size that is there only changes its text. */
function showTable(place, head, rows) {
  const shown = place.querySelector("table");
  const body = shown && shown.tBodies[0].rows;
  if (!shown || body.length !== rows.length || shown.tHead.rows[0].cells.length !== head.length) {
    const made = table(head, rows);
    place.replaceChildren(made);
    return made;
  }
  rows.forEach((row, r) => row.forEach((cell, c) => setText(body[r].cells[c], String(cell))));
  return shown;
}

/** Changes the text of an element, if it is another one. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const underscored = (name) => name.replaceAll("_", " ");
const sum = (values) => values.reduce((total, value) => total + value, 0);
const largest = (values) => values.reduce((a, b) => (b > a ? b : a), -Infinity);
const smallest = (values) => values.reduce((a, b) => (b < a ? b : a), Infinity);
