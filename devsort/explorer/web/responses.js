// Responses: how much each component responds to each part of the data, at the step of the slider.

const RESPONSE = { width: 420, row: 15, letter: 6.2 }; // pixels

/** Where the colours of a response end: the same at all steps and for all runs. */
function responseLimit(name) {
  return largest(RUNS.flatMap((run) => run.responses || []).filter((r) => r.name === name)
    .map((r) => r.limit)) || 1;
}

/** The values of a response at a checkpoint, component by component. */
function responseAt(response, checkpoint) {
  response.opened = response.opened || unpack(response.values);
  const size = response.components.length * response.parts.length;
  return response.opened.values.subarray(checkpoint * size, (checkpoint + 1) * size);
}

function responseFigure(run, response) {
  const { name, unit, components, parts } = response;
  const canvas = html("canvas");
  const limit = responseLimit(name);
  const left = 10 + RESPONSE.letter * largest(components.map((c) => c.length));
  const size = [Math.max(4, Math.min(24, Math.floor(RESPONSE.width / parts.length))), RESPONSE.row];
  const apart = Math.ceil(parts.length / 10);
  const at = () => responseAt(response, nearest(response.step, step()));
  onView(canvas, () => {
    const [values, colour] = [at(), diverging(limit)];
    heatmap(canvas, {
      shape: [components.length, parts.length], size, left,
      colour: (i) => colour(values[i]),
      rows: components.map((c, i) => [i, c]),
      columns: parts.map((p, i) => [i, p]).filter(([i]) => i % apart === 0),
    });
  });
  canvas.addEventListener("pointermove", (event) => {
    const column = Math.floor((event.offsetX - left) / size[0]);
    const row = Math.floor((event.offsetY - LABELS.top) / size[1]);
    if (!components[row] || !parts[column]) return hideTip();
    const value = [digits(at()[row * parts.length + column]), unit].join(" ").trim();
    return showTip(event, [`${components[row]}, ${parts[column]}: ${value}`]);
  });
  canvas.addEventListener("pointerleave", hideTip);
  const [most, of] = [digits(limit), unit ? ` (${unit})` : ""];
  const caption = `${name}${of}; blue −${most} to red +${most}`;
  const label = `${name} of ${run.name}: components in rows, parts of the data in columns; ` +
    "the CSV has its numbers";
  return html("div", { class: "scroll" }, figure(caption, canvas, label));
}

/** Responses at the step of the slider, for the CSV. */
moreRows.push(() => RUNS.flatMap((run) => (run.responses || []).flatMap((response) => {
  const checkpoint = nearest(response.step, step());
  const values = responseAt(response, checkpoint);
  return response.components.flatMap((component, row) => response.parts.map((part, column) =>
    [run.name, response.name, `${component}, ${part}`, response.step[checkpoint],
      values[row * response.parts.length + column]]));
})));

const RESPONSES = {
  title: "Responses",
  text: "How much each component responds to each part of the data at this step; colours mean " +
    "the same at all steps and in all runs.",
  needs: "responses",
  column: (run, place) => place.append(...run.responses.map((one) => responseFigure(run, one))),
};
