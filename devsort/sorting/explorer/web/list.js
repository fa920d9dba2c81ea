// The list that all networks of the page sort: typed or drawn.

const TASK = RUNS[0].sorter;

/** An example: numbers spread over the range, out of order. */
function exampleList({ list_length: length, numbers }) {
  return Array.from({ length }, (_, i) => {
    const rank = (i * 7 + 3) % length;
    return Math.floor(((rank + 0.5) * numbers) / length);
  });
}

/** The list that a text says, or the line that says what is wrong with it. */
function parseList(text, { list_length: length, numbers }) {
  const words = text.split(/[\s,;]+/).filter(Boolean);
  const list = words.map(Number);
  const wrong = words.find((w, i) => !/^\d+$/.test(w) || list[i] >= numbers);
  if (wrong !== undefined) return { error: `${wrong} is no whole number from 0 to ${numbers - 1}` };
  const twice = list.find((n, i) => list.indexOf(n) < i);
  if (twice !== undefined) {
    return { error: `${twice} is there twice: the network learned lists without repetition` };
  }
  if (list.length !== length) return { error: `${list.length} numbers, expected ${length}` };
  return { list };
}

/** A field to type into and bars to drag. */
function listInput() {
  const field = html("input", { type: "text", id: "list", size: 34, autocomplete: "off",
    inputmode: "numeric", "aria-label": `a list of ${TASK.list_length} numbers`,
    "aria-describedby": "message" });
  const message = html("span", { id: "message", role: "alert" });
  field.addEventListener("input", () => {
    const found = parseList(field.value, TASK);
    message.textContent = found.error || "";
    field.setAttribute("aria-invalid", Boolean(found.error));
    if (found.list) setState({ list: found.list });
  });
  const show = (list) => {
    field.value = list.join(" ");
    message.textContent = "";
    setState({ list });
  };
  const free = button("go on from its own answers", () => setState({ free: !state.free }),
    { id: "free", "aria-pressed": "false" });
  onChange(() => free.setAttribute("aria-pressed", state.free));
  show(exampleList(TASK));
  return html("div", {},
    html("div", { class: "bar" }, field, button("random list", () => show(randomList(TASK))), free,
      message),
    drawList(show));
}

function randomList({ list_length: length, numbers }) {
  const left = Array.from({ length: numbers }, (_, n) => n);
  return Array.from({ length }, () => left.splice(Math.floor(Math.random() * left.length), 1)[0]);
}

/** Bars that are dragged to their numbers; a number that is taken gives way to the nearest free. */
function drawList(show) {
  const area = svg("svg", { viewBox: "0 0 520 70", class: "drawing", role: "img",
    "aria-label": "the list as bars, to be dragged; the field above takes the same numbers" });
  const drag = (event) => {
    if (!event.buttons) return;
    const box = area.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * TASK.list_length);
    const share = 1 - (event.clientY - box.top - 4) / (box.height - 8);
    const wanted = Math.round(Math.min(Math.max(share, 0), 1) * (TASK.numbers - 1));
    const at = Math.min(Math.max(column, 0), TASK.list_length - 1);
    show(state.list.map((n, i) => (i === at ? freeNumber(wanted, at) : n)));
  };
  area.addEventListener("pointerdown", (event) => {
    area.setPointerCapture(event.pointerId);
    drag(event);
  });
  area.addEventListener("pointermove", drag);
  onView(area, () => area.replaceChildren(...bars()));
  return area;
}

function freeNumber(wanted, at) {
  const taken = state.list.filter((_, i) => i !== at);
  const every = Array.from({ length: TASK.numbers }, (_, n) => n);
  return every.filter((n) => !taken.includes(n)).reduce(
    (best, n) => (Math.abs(n - wanted) < Math.abs(best - wanted) ? n : best));
}

function bars() {
  const width = 520 / TASK.list_length;
  return state.list.flatMap((n, i) => {
    const height = 4 + (50 * n) / (TASK.numbers - 1);
    const middle = (i + 0.5) * width;
    return [
      svg("rect", { x: i * width + 2, width: width - 4, y: 0, height: 70, fill: "currentColor",
        "fill-opacity": 0.06 }),
      svg("rect", { x: i * width + 2, width: width - 4, y: 70 - height, height,
        fill: DATA.style.palette[0] }),
      svg("text", { x: middle, y: 64 - height, "text-anchor": "middle", ...TEXT }, n),
    ];
  });
}

Object.assign(state, { list: exampleList(TASK), free: false, ablated: RUNS.map(() => []) });
