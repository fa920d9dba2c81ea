// The timeline's controls: slider, keys, play, axis; and what the pointer shows.

const FRAME = 300; // milliseconds of a frame while playing
let playing = null;

/** Slider, buttons and the line with the present step. */
function buildControls() {
  const slider = html("input", { type: "range", id: "slider", min: 0, max: STEPS.length - 1,
    "aria-label": "training step" });
  slider.addEventListener("input", () => setState({ frame: Number(slider.value) }));
  const play = button("Play", togglePlay, { id: "play", "aria-pressed": "false" });
  const log = button("log steps", () => setState({ log: !state.log }),
    { id: "log", "aria-pressed": "true" });
  $("controls").append(
    html("div", { class: "bar" }, play, slider, html("span", { id: "step" }), log),
    html("p", { id: "summary", "aria-live": "polite" }));
  onChange(() => {
    slider.value = state.frame;
    slider.setAttribute("aria-valuetext", `step ${step()}`);
    log.setAttribute("aria-pressed", state.log);
    $("step").textContent = `step ${step()}`;
    $("summary").textContent = RUNS.map(summary).join(" · ");
  });
  document.addEventListener("keydown", onKey);
}

/** The stage, loss and LLC of a run at the step of the slider, in one line. */
function summary(run) {
  const at = stageAt(run, step());
  const where = at ? `stage ${at.number}, ${stageTitle(at.stage)}` : "outside the stages";
  const lead = run.panels.filter((p) => ["loss", "LLC"].includes(p.title)).map((p) => {
    const curve = p.curves[0];
    const i = nearest(curve.step, step());
    const flagged = curve.flags && curve.flags[i].length ? " flagged" : "";
    return `${p.title} ${digits(curve.value[i])}${flagged}`;
  });
  return `${run.name}: ${where}, ${lead.join(", ")}`;
}

const KEYS = {
  ArrowLeft: () => jump(state.frame - 1),
  ArrowRight: () => jump(state.frame + 1),
  Home: () => jump(0),
  End: () => jump(STEPS.length - 1),
  " ": () => togglePlay(),
};

/** Keys move the slider unless they are being typed or pressed into something. */
function onKey(event) {
  const busy = event.target.closest("input, select, button, textarea, summary");
  if (busy || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
}

function jump(frame) {
  setState({ frame: Math.min(Math.max(frame, 0), STEPS.length - 1) });
}

/** Starts at the beginning if the end is reached; stops at the end. */
function togglePlay() {
  if (playing) {
    clearInterval(playing);
    playing = null;
  } else {
    if (state.frame === STEPS.length - 1) jump(0);
    playing = setInterval(() => {
      jump(state.frame + 1);
      if (state.frame === STEPS.length - 1) togglePlay();
    }, FRAME);
  }
  $("play").textContent = playing ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", Boolean(playing));
}

/** Moves the slider to where a chart is clicked. */
function goTo(area, shared, event) {
  jump(nearest(STEPS, shared.x.back(event.clientX - area.getBoundingClientRect().left)));
}

/** Shows what is under the pointer, and follows clicks. */
function listen(area, shared, curves, panel) {
  area.addEventListener("pointermove", (event) => {
    if (!shared.x) return;
    const at = shared.x.back(event.clientX - area.getBoundingClientRect().left);
    showTip(event, curves().map((curve) => pointText(curve, nearest(curve.step, at), panel)));
  });
  area.addEventListener("pointerleave", hideTip);
  area.addEventListener("click", (event) => goTo(area, shared, event));
}

/** Value, interval, R-hat, ESS, why it is flagged and what to do, of one point. */
function pointText(curve, i, panel) {
  const unit = panel.unit ? ` ${panel.unit}` : "";
  const interval = curve.low ? between(curve.low[i], curve.high[i]) : "";
  const lines = [`${curve.name} at step ${digits(curve.step[i], 5)}: ` +
    `${digits(curve.value[i])}${unit}${interval}`];
  if (curve.rhat) lines.push(`R-hat ${digits(curve.rhat[i])}, ESS ${digits(curve.ess[i])}`);
  if (curve.heat && curve.heat[i]) {
    lines.push(`${digits(curve.heat[i])}${unit} of heat from minibatches subtracted`);
  }
  for (const flag of (curve.flags ? curve.flags[i] : [])) lines.push(flagText(flag, curve, i));
  return lines.join("\n");
}

/** What a flag of an estimate says, the diagnostic behind it, and what to do. */
function flagText(flag, curve, i) {
  const [why, fix, key] = DATA.advice[flag] || ["a diagnostic of this estimate failed"];
  const behind = key && curve.behind ? `; here ${key} ${digits(curve.behind[key][i])}` : "";
  return `flagged ${underscored(flag)}: ${why}${behind}${fix ? `. To do: ${fix}` : ""}`;
}

function hideTip() {
  $("tooltip").hidden = true;
}

function showTip(event, texts) {
  const tip = $("tooltip");
  tip.textContent = texts.join("\n");
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const [right, low] = [event.clientX + 14, event.clientY + 14];
  const x = right + width > innerWidth ? event.clientX - width - 14 : right;
  const y = low + height > innerHeight ? event.clientY - height - 14 : low;
  tip.style.left = `${Math.max(x, 4)}px`;
  tip.style.top = `${Math.max(y, 4)}px`;
}
