// The network of this step: answers, attention and probabilities, with any heads ablated.

const headColour = (head) => DATA.style.heads[head % DATA.style.heads.length];

/** What a run's network answers now, whole and with its ablated heads replaced. */
function liveAnswers(run) {
  const network = networkOf(run, frameOf(run));
  const ablated = state.ablated[RUNS.indexOf(run)];
  const whole = answer(network, state.list, { free: state.free });
  const cut = ablated.length ? answer(network, state.list, { ablated, free: state.free }) : null;
  return { network, ablated, whole, cut };
}

/** Whether a run sorts lists like those that are typed. */
const fits = ({ sorter }) =>
  sorter && sorter.list_length === TASK.list_length && sorter.numbers === TASK.numbers;

function liveColumn(run, place) {
  if (!fits(run)) {
    place.append(html("p", {}, "This run sorts other lists than the first."));
    return;
  }
  const toggle = ablation(run);
  const answers = html("div", { "data-live": "answers" },
    html("p", { "data-live": "say" }), html("div", { class: "scroll" }));
  const patterns = headsOf(run).map((head) => attention(head, toggle));
  const chances = html("canvas");
  const whole = html("div", {}, switches(run, toggle), answers,
    html("p", { class: "quiet" }, "Rows: answers, by the right number. Columns of attention: " +
      "the list, the separator S, the prefix. Framed: the right number. " +
      "A click on a head ablates it."),
    html("div", { class: "matrices" }, patterns),
    html("div", { class: "scroll" },
      figure("probability of each number (columns) at each answer (rows)", chances)));
  place.append(whole);
  onView(whole, () => {
    const live = liveAnswers(run);
    const shown = live.cut || live.whole;
    showAnswers(answers, live);
    patterns.forEach((one, head) => showAttention(one, shown, head, live.ablated.includes(head)));
    drawChances(chances, shown, run.sorter.numbers);
  });
}

/** Ablates a head of a run, or gives it back. */
function ablation(run) {
  const index = RUNS.indexOf(run);
  return (head) => {
    const now = state.ablated[index];
    const next = now.includes(head) ? now.filter((h) => h !== head) : [...now, head].sort();
    setState({ ablated: state.ablated.map((a, i) => (i === index ? next : a)) });
  };
}

/** A switch for each head: pressed, its output is replaced by its mean. */
function switches(run, toggle) {
  const index = RUNS.indexOf(run);
  const made = headsOf(run).map((head) => button(`ablate head ${head}`, () => toggle(head),
    { "aria-pressed": "false", "data-head": head }));
  onChange(() => made.forEach((one, head) =>
    one.setAttribute("aria-pressed", state.ablated[index].includes(head))));
  return html("div", { class: "bar" }, made);
}

/** The attention of a head; a click is one on its switch, which keys reach. */
function attention(head, toggle) {
  const made = figure(`attention of head ${head}`, html("canvas", { class: "clickable" }));
  made.addEventListener("click", () => toggle(head));
  return made;
}

function showAttention(made, shown, head, ablated) {
  const [caption, canvas] = made.children;
  setText(caption, `attention of head ${head}${ablated ? ", ablated" : ""}`);
  made.classList.toggle("ablated", ablated);
  drawAttention(canvas, shown, head);
}

/** The right answers, the network's, and what ablation costs, a column for each answer. */
function showAnswers(place, { whole, cut }) {
  const rows = [["right answer", ...whole.targets], ...answerRows(whole, "")];
  if (cut) {
    rows.push(...answerRows(cut, ", ablated"));
    const rise = cut.losses.map((v, i) => Math.round(100 * (v - whole.losses[i])) / 100);
    rows.push(["rise of loss (nats)", ...rise.map((v) => digits(v))]);
  }
  const missed = (found) => found.answers.filter((a, i) => a !== found.targets[i]).length;
  const mean = (found) => digits(sum(found.losses) / found.losses.length);
  const line = (found) => `loss ${mean(found)} nats, ${missed(found)} wrong`;
  const [say, box] = place.children;
  setText(say, line(whole) + (cut ? `; ablated: ${line(cut)}` : ""));
  const shown = showTable(box, ["answer", ...whole.targets.map((_, i) => i + 1)], rows);
  for (const row of shown.tBodies[0].rows) {
    for (const cell of row.cells) {
      cell.classList.toggle("wrong", cell.textContent.startsWith(CROSS));
    }
  }
}

const CROSS = "✗"; // before a wrong answer, which is bold and in another colour too

function answerRows(found, suffix) {
  const said = (a) => (a === TASK.numbers ? "SEP" : a);
  return [
    [`network${suffix}`, ...found.answers.map(
      (a, i) => `${a === found.targets[i] ? "" : CROSS}${said(a)}`)],
    [`p of right (%)${suffix}`, ...found.targets.map(
      (t, i) => (100 * found.probabilities[i][t]).toFixed(1))],
    [`loss (nats)${suffix}`, ...found.losses.map((v) => v.toFixed(3))],
  ];
}

const tokenLabel = (token) => (token === TASK.numbers ? "S" : String(token));

function drawAttention(canvas, { pattern, tokens, targets }, head) {
  const [rows, columns] = [pattern[head].length, tokens.length];
  const colour = shade(headColour(head));
  heatmap(canvas, {
    shape: [rows, columns],
    size: [15, 13],
    colour: (i) => colour(pattern[head][Math.floor(i / columns)][i % columns] || 0),
    rows: targets.map((t, i) => [i, t]),
    columns: tokens.map((token, i) => [i, tokenLabel(token)]),
    marked: targets.map((t, i) => i * columns + tokens.indexOf(t)),
  });
}

function drawChances(canvas, { probabilities, targets }, numbers) {
  const colour = shade(DATA.style.palette[0]);
  const columns = numbers + 1;
  heatmap(canvas, {
    shape: [targets.length, columns],
    size: [Math.max(4, Math.min(8, 420 / columns)), 13],
    colour: (i) => colour(probabilities[Math.floor(i / columns)][i % columns]),
    rows: targets.map((t, i) => [i, t]),
    columns: spaced(numbers, Math.ceil(numbers / 10)),
    marked: targets.map((t, i) => i * columns + t),
  });
}

/** Answers at the step of the slider, for the CSV. */
moreRows.push(() => RUNS.filter(fits).flatMap((run) => {
  const { whole, cut, ablated } = liveAnswers(run);
  const rows = (found, name) => found.losses.flatMap((loss, i) => [
    [run.name, name, `answer ${i + 1} (right: ${found.targets[i]})`, step(), found.answers[i]],
    [run.name, name, `loss of answer ${i + 1}`, step(), loss],
  ]);
  const without = cut ? rows(cut, `without heads ${ablated.join(" ")}`) : [];
  return [...rows(whole, "network"), ...without];
}));

sections.push({
  title: "The network of this step",
  text: "It sorts your list here. Answers are predicted from the right " +
    "prefix, as in training, or from its own answers. An ablated head gives its mean over lists.",
  needs: "sorter",
  head: listInput,
  column: liveColumn,
});
forTests.liveAnswers = liveAnswers;
