// The page, top to bottom.

function buildHeader() {
  const dark = button("Dark or light", () => {
    document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
    setState({});
  }, { id: "theme" });
  $("header").append(
    html("h1", {}, `Development of ${RUNS.map((run) => run.name).join(" and ")}`),
    html("p", { class: "quiet" },
      "Move the slider, or press the arrow keys, Home, End and space. " +
      "Hover over a point for its numbers; click a chart to go to a step."),
    html("div", { class: "bar" }, dark, ...buildExport(),
      html("span", { class: "quiet" }, `devsort ${DATA.version}`)));
}

/** The same panel of the other runs. */
function samePanel(run, title) {
  return RUNS.filter((other) => other !== run).flatMap(
    (other) => other.panels.filter((panel) => panel.title === title));
}

function build() {
  buildHeader();
  buildControls();
  addSection({
    title: "Timeline",
    text: "Over training steps, with 95 % bands; the shape of a red mark says which flag" +
      (RUNS.length > 1 ? "; dotted and pale: the other run." : "."),
    column: (run, place) => place.append(ribbon(run),
      ...run.panels.map((panel) => chart(run, panel, samePanel(run, panel.title)))),
  });
  sections.forEach(addSection);
  addSection(RESPONSES);
  if (DATA.comparison) $("main").append(comparison(DATA.comparison));
  addSection({
    title: "Evidence",
    text: "The chains behind each LLC, all numbers at this step, and the config that made them.",
    column: (run, place) => place.append(...(run.traces ? [traces(run)] : []),
      numbersAtStep(run), about(run)),
  });
  systemDark.addEventListener("change", () => setState({}));
  window.addEventListener("beforeprint", drawAll);
  setState({});
}

build();
window.explorer = { state, setState, STEPS, RUNS, csv, svgOfView, unpack, ...forTests };
