// OV and QK of each head from the weights, as devsort/sorting/circuits.py defines them.

const ONE_STEP = 10; // milliseconds that the circuits of a step take

/** {OV: [H](N, N) in logits, QK: [H](N + 1, N) in nats}, row by row; kept with the network. */
function circuitsOf(run, frame) {
  const network = networkOf(run, frame);
  if (!network.circuits) {
    const queries = run.sorter.query_positions;
    const asked = run.sorter.asked = run.sorter.asked || unpack(queries).values;
    const y = normedTokens(network);
    const mean = meanInList(network, y);
    const current = y.map((rows, token) => weighted(rows.slice(network.length),
      asked.subarray(token * network.length, (token + 1) * network.length)));
    const U = foldedUnembedding(network);
    network.circuits = {
      OV: headsOf(run).map((head) => ovOf(network, head, mean, U)),
      QK: headsOf(run).map((head) => qkOf(network, head, mean, current)),
    };
  }
  return network.circuits;
}

/** LN_1 of each token at each position: [V][2L](D). */
function normedTokens(network) {
  const positions = Array.from({ length: 2 * network.length }, (_, at) => at);
  return Array.from({ length: network.vocab }, (_, token) =>
    positions.map((at) => normed(network, token, at)));
}

/** Σ_i weight_i row_i. */
function weighted(rows, weights) {
  const out = new Float64Array(rows[0].length);
  for (let i = 0; i < rows.length; i++) {
    const [row, weight] = [rows[i], weights[i]];
    for (let k = 0; k < out.length; k++) out[k] += weight * row[k];
  }
  return out;
}

/** Mean over the list positions of each number: [N](D). */
function meanInList({ length, vocab }, y) {
  const equal = new Float64Array(length).fill(1 / length);
  return y.slice(0, vocab - 1).map((rows) => weighted(rows.slice(0, length), equal));
}

/** ȳ_s W_V W_O U_t / σ, centred over s and t. */
function ovOf(network, head, means, U) {
  const { head: size, width, vocab, sigma } = network;
  const numbers = vocab - 1;
  const rows = means.map((mean) => {
    const value = affine(mean, ofHead(network, "W_V", head), null, size);
    return affine(affine(value, ofHead(network, "W_O", head), null, width), U, null, numbers);
  });
  const middle = weighted(rows, new Float64Array(numbers).fill(1 / numbers));
  return joined(rows.map((row) => row.map((v, t) => (v - middle[t]) / sigma)));
}

/** Score of the current token q for number k in the list, centred over k. */
function qkOf(network, head, means, current) {
  const keys = means.map((mean) => project(network, "K", head, mean));
  return joined(current.map((row) => {
    const q = project(network, "Q", head, row);
    const scores = Float64Array.from(keys, (k) => dot(q, k) / Math.sqrt(network.head));
    const mean = sum(scores) / scores.length;
    return scores.map((s) => s - mean);
  }));
}

/** W_U of the numbers, LN_f's gain and centring folded in, centred over the numbers: (D, N). */
function foldedUnembedding({ weights, width, vocab }) {
  const numbers = vocab - 1;
  const W = weights["unembed.W_U"].values;
  const gain = weights["ln_final.w"];
  const rows = Array.from({ length: width }, (_, k) =>
    Float64Array.from(W.subarray(k * vocab, k * vocab + numbers),
      (value) => value * (gain ? gain.values[k] : 1)));
  const middle = gain ? weighted(rows, new Float64Array(width).fill(1 / width)) : null;
  return new Float32Array(joined(rows.map((row) => {
    const folded = middle ? row.map((v, t) => v - middle[t]) : row;
    const mean = sum(folded) / numbers;
    return folded.map((v) => v - mean);
  })));
}

function joined(rows) {
  const out = new Float64Array(rows.length * rows[0].length);
  rows.forEach((row, i) => out.set(row, i * row.length));
  return out;
}

/** Computes the circuits of all steps while the reader does nothing, so that the slider flows. */
function warmUp(todo, idle) {
  if (idle > ONE_STEP) circuitsOf(...todo.pop());
  if (todo.length) whenIdle((next) => warmUp(todo, next));
}

const everyNetwork = RUNS.flatMap((run) => run.frames.map((_, frame) => [run, frame]));
whenIdle((idle) => warmUp(everyNetwork, idle));
forTests.circuitsOf = circuitsOf;
