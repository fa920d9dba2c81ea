// OV and QK of each head at the step of the slider.

/** Where the colours of a kind end: the same at all steps and for all runs. */
function limitOf(kind) {
  return largest(RUNS.map((run) => run.sorter.limits[kind]));
}

function drawMatrix(canvas, values, kind, numbers) {
  const apart = Math.ceil(numbers / 5);
  const colour = diverging(limitOf(kind));
  const rows = values.length / numbers;
  heatmap(canvas, {
    shape: [rows, numbers],
    size: [Math.max(1, Math.floor(280 / numbers)), Math.max(1, Math.floor(280 / numbers))],
    colour: (i) => colour(values[i]),
    rows: [...spaced(numbers, apart), ...(rows > numbers ? [[numbers, "SEP"]] : [])],
    columns: spaced(numbers, apart),
  });
}

const MEANING = {
  OV: "attended number (row) to logit (column), logits",
  QK: "current token (row) for number in the list (column), nats",
};

function matrixColumn(run, place) {
  const heads = headsOf(run);
  for (const kind of ["OV", "QK"]) {
    const canvases = heads.map(() => html("canvas"));
    const row = html("div", { class: "matrices" }, canvases.map((canvas, head) =>
      figure(`${kind} of head ${head}`, canvas, `${kind} of head ${head}: ${MEANING[kind]}`)));
    const limit = digits(limitOf(kind));
    place.append(html("p", { class: "quiet" },
      `${kind}: ${MEANING[kind]}; blue −${limit} to red +${limit}`), row);
    onView(row, () => {
      const found = circuitsOf(run, frameOf(run))[kind];
      const { numbers } = run.sorter;
      canvases.forEach((canvas, head) => drawMatrix(canvas, found[head], kind, numbers));
    });
  }
}

sections.push({
  title: "What the heads move and where they look",
  text: "OV and QK from the weights of this step; colours mean the same at all steps and in all " +
    "runs.",
  needs: "sorter",
  column: matrixColumn,
});
