// What the page shows now, and what is redrawn when that changes.

const DATA = JSON.parse($("data").textContent);
const RUNS = DATA.runs;
const STEPS = [...new Set(RUNS.flatMap((run) => run.frames))].sort((a, b) => a - b);
const state = { frame: STEPS.length - 1, log: true };

const BUDGET = 12; // milliseconds of a frame that are given to drawing
const views = new Map(); // element → {draw, seen, stale}
const watchers = [];
let scheduled = false;

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const view = views.get(entry.target);
    view.seen = entry.isIntersecting;
    if (view.seen && view.stale) refresh(view);
  }
}, { rootMargin: "200px" });

/** Has `draw` called whenever the state has changed, once the element is in or near the window. */
function onView(element, draw) {
  views.set(element, { draw, seen: false, stale: true });
  watcher.observe(element);
}

/** Has `act` called at every change, in view or not. */
function onChange(act) {
  watchers.push(act);
}

/** Changes the state and redraws before the next frame. */
function setState(changes) {
  Object.assign(state, changes);
  for (const view of views.values()) view.stale = true;
  schedule();
}

function schedule() {
  if (!scheduled) requestAnimationFrame(redraw);
  scheduled = true;
}

const waiting = () => [...views].filter(([, view]) => view.seen && view.stale);

/**
 * Draws what is in view and old, for BUDGET milliseconds; the rest in the next frame, so that the
 * slider flows. What was drawn goes to the end of the line.
 */
function redraw() {
  scheduled = false;
  watchers.forEach((act) => act());
  const end = performance.now() + BUDGET;
  for (const [element, view] of waiting()) {
    if (performance.now() > end) {
      schedule();
      break;
    }
    refresh(view);
    views.delete(element);
    views.set(element, view);
  }
}

/** Draws all that is old, in view or not: for paper and files. */
function drawAll() {
  for (const view of views.values()) if (view.stale) refresh(view);
}

/** Has `act` called with the milliseconds for which the browser has nothing else to do. */
function whenIdle(act) {
  if (window.requestIdleCallback) requestIdleCallback((idle) => act(idle.timeRemaining()));
  else setTimeout(() => act(50), 50); // Safari
}

function refresh(view) {
  view.stale = false;
  view.draw();
}

const step = () => STEPS[state.frame];

/** Position of a run's checkpoint that is nearest to the step of the slider, in log step. */
function frameOf(run) {
  return nearest(run.frames, step());
}

/** Index of the entry that is nearest to a value, in log. */
function nearest(steps, value) {
  let best = 0;
  const far = (i) => Math.abs(Math.log(Math.max(steps[i], 0.5) / Math.max(value, 0.5)));
  for (let i = 1; i < steps.length; i++) if (far(i) < far(best)) best = i;
  return best;
}

/**
 * A section: a heading, an explanation, what all runs share, and a column for each run.
 *
 * needs: a key that a run must have; column(run, place) fills a run's column; head() makes what
 * stands above the columns.
 */
function addSection({ title, text, needs, column, head }) {
  const runs = RUNS.filter((run) => !needs || run[needs]);
  if (!runs.length) return;
  const columns = runs.map((run) => {
    const place = html("div", { "data-run": run.name }, html("h3", {}, run.name));
    column(run, place);
    return place;
  });
  const opening = [html("h2", {}, title), html("p", { class: "quiet" }, text)];
  if (head) opening.push(head());
  $("main").append(html("section", { "aria-label": title }, opening,
    html("div", { class: "columns" }, columns)));
}

/** Sections that further scripts add, and what they let tests see. */
const sections = [];
const forTests = { settled: () => !scheduled && waiting().length === 0 };
