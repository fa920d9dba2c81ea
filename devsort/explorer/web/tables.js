// Tables: all numbers at the step of the slider, and the comparison of runs.

/** The numbers of every curve of a run at the step of the slider, flags explained. */
function numbersAtStep(run) {
  const [box, flags] = [html("div", { class: "scroll" }), html("ul")];
  const place = html("div", {}, box, flags);
  onView(place, () => {
    const rows = run.panels.flatMap((panel) => panel.curves.map((curve) => {
      const i = nearest(curve.step, step());
      const interval = curve.low ? between(curve.low[i], curve.high[i]) : "";
      const extra = curve.rhat ? [digits(curve.rhat[i]), digits(curve.ess[i])] : ["", ""];
      const name = panel.title === curve.name ? curve.name : `${panel.title}: ${curve.name}`;
      const raised = (curve.flags ? curve.flags[i] : []).map(underscored).join(", ");
      return [name, digits(curve.step[i], 5), digits(curve.value[i]) + interval, ...extra, raised];
    }));
    showTable(box, ["", "step", "value (95 %)", "R-hat", "ESS", "flags"], rows);
    flags.replaceChildren(...raisedFlags(run));
  });
  return place;
}

/** What the flags at the step of the slider say, estimate by estimate. */
function raisedFlags(run) {
  return run.panels.flatMap((panel) => panel.curves.filter((c) => c.flags)).flatMap((curve) => {
    const i = nearest(curve.step, step());
    return curve.flags[i].map(
      (flag) => html("li", {}, `${curve.name}: ${flagText(flag, curve, i)}`));
  });
}

const COMPARED = [
  ["peak LLC", "peak_llc"],
  ["step of peak", "peak_step"],
  ["final LLC", "final_llc"],
  ["fall", "fall"],
  ["final loss (nats)", "loss"],
  ["split score", "split_score"],
  ["split onset (step)", "split_onset"],
];

/** The table of `devsort compare`. */
function comparison(value) {
  const cell = (run, key) => {
    const ends = run[`${key}_ci95`];
    return digits(run[key]) + (ends ? between(...ends) : "");
  };
  const figures = COMPARED.filter(([, key]) => key in value.runs[0]).map(
    ([label, key]) => [label, ...value.runs.map((run) => cell(run, key))]);
  const stages = value.stages.map((row) => [`${row.name}, LLC ${row.llc}`,
    ...row.runs.map((s) => (s ? `${digits(s.from)} to ${digits(s.to)}, ` +
      `LLC ${digits(s.llc_from)} → ${digits(s.llc_to)}` : "–"))]);
  const names = value.runs.map((run) => run.run);
  return html("section", { "aria-label": "comparison", id: "comparison" },
    html("h2", {}, "Comparison"),
    html("p", { class: "quiet" }, "The table of devsort compare; in brackets 95 % intervals."),
    html("div", { class: "scroll" }, table(["", ...names], figures)),
    html("div", { class: "scroll" }, table(["stage", ...names], stages)),
    ...value.differences.map(differences));
}

function differences(one) {
  const keys = COMPARED.slice(0, 4).filter(([, key]) => one[key]);
  const rows = keys.map(([label, key]) => [
    key === "peak_step" ? "step of peak (log10)" : label,
    digits(one[key].difference) + between(...one[key].ci95)]);
  const head = [`${one.run} − ${one.reference}`, "difference"];
  return html("div", { class: "scroll" }, table(head, rows));
}
