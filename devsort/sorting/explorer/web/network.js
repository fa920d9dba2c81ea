// The network: one causal attention layer, as devsort/sorting/model.py writes it.
//
//   y       = LN_1(W_E[token] + W_pos[position])
//   q, k, v = y W_Q + b_Q, y W_K + b_K, y W_V + b_V               of each head
//   pattern = softmax(q kᵀ / sqrt(d_head)), causal
//   logits  = LN_f(resid + Σ_h pattern v W_O + b_O) W_U + b_U
//
// Weights are float32 as half precision holds them; sums are in double precision.

const LN_EPS = 1e-5;
const ATTN = "blocks.0.attn.";

/** The network of a run at a checkpoint, unpacked when it is first asked for. */
function networkOf(run, frame) {
  const sorter = run.sorter;
  sorter.opened = sorter.opened || [];
  if (!sorter.opened[frame]) {
    const packed = sorter.networks[frame];
    const weights = Object.fromEntries(
      Object.entries(packed.weights).map(([name, value]) => [name, unpack(value)]));
    const [heads, width, head] = weights[`${ATTN}W_Q`].shape;
    sorter.opened[frame] = { weights, heads, width, head, vocab: sorter.numbers + 1,
      length: sorter.list_length, mean: unpack(packed.mean_out).values, sigma: packed.sigma };
  }
  return sorter.opened[frame];
}

/** 0 … H − 1. */
function headsOf(run) {
  return Array.from({ length: networkOf(run, 0).heads }, (_, head) => head);
}

/** x W + b of one row x (n), W (n, m). */
function affine(x, W, bias, columns) {
  const out = new Float64Array(bias || columns);
  for (let k = 0, at = 0; k < x.length; k++) {
    const factor = x[k];
    for (let j = 0; j < columns; j++, at++) out[j] += factor * W[at];
  }
  return out;
}

/** (x − mean) / sqrt(var + 1e-5) · w + b; without w, x itself. */
function layerNorm(x, w, b) {
  if (!w) return x;
  const n = x.length;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += x[i] / n;
  let variance = 0;
  for (let i = 0; i < n; i++) variance += (x[i] - mean) ** 2 / n;
  const factor = 1 / Math.sqrt(variance + LN_EPS);
  const out = new Float64Array(n);
  for (let i = 0; i < n; i++) out[i] = (x[i] - mean) * factor * w.values[i] + b.values[i];
  return out;
}

function softmax(scores) {
  const top = largest(scores);
  const weights = scores.map((s) => Math.exp(s - top));
  const total = sum(weights);
  return weights.map((w) => w / total);
}

function dot(a, b) {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i] * b[i];
  return total;
}

/** Part of a parameter that belongs to a head. */
function ofHead({ weights, heads }, name, head) {
  const { values } = weights[ATTN + name];
  const size = values.length / heads;
  return values.subarray(head * size, (head + 1) * size);
}

/** Token plus position before attention, (D). */
function residual(network, token, position) {
  const { weights, width } = network;
  const tokens = weights["embed.W_E"].values;
  const positions = weights["pos_embed.W_pos"].values;
  const out = new Float64Array(width);
  for (let i = 0; i < width; i++) {
    out[i] = tokens[token * width + i] + positions[position * width + i];
  }
  return out;
}

/** LN_1 of token plus position. */
function normed(network, token, position) {
  const { weights } = network;
  return layerNorm(residual(network, token, position),
    weights["blocks.0.ln1.w"], weights["blocks.0.ln1.b"]);
}

function project(network, which, head, y) {
  return affine(y, ofHead(network, `W_${which}`, head), ofHead(network, `b_${which}`, head),
    network.head);
}

/**
 * Answers to a list.
 *
 * ablated: heads whose output is replaced by its mean over lists and answers. free: the network
 * goes on from its own answers; else from the right ones, as in training.
 *
 * Returns tokens that were read, answers, targets, logits [L][V], probabilities [L][V], losses [L],
 * and pattern [H][L][positions so far].
 */
function answer(network, list, { ablated = [], free = false } = {}) {
  const targets = [...list].sort((a, b) => a - b);
  if (network.list !== list.join()) network.seen = new Map();
  network.list = list.join();
  const cache = Array.from({ length: network.heads }, () => ({ k: [], v: [] }));
  list.forEach((token, position) => remember(network, cache, token, position));
  const rows = [];
  let token = network.vocab - 1;
  for (let i = 0; i < list.length; i++) {
    rows.push({ token, ...answerOne(network, cache, token, list.length + i, ablated) });
    token = free ? rows[i].answer : targets[i];
  }
  return {
    tokens: [...list, ...rows.map((row) => row.token)],
    targets,
    answers: rows.map((row) => row.answer),
    logits: rows.map((row) => row.logits),
    probabilities: rows.map((row) => row.probabilities),
    losses: rows.map((row, i) => -Math.log(row.probabilities[targets[i]])),
    pattern: cache.map((_, h) => rows.map((row) => row.pattern[h])),
  };
}

/** Adds key and value of a position to every head's cache; query, key and value of every head. */
function remember(network, cache, token, position) {
  const found = projections(network, token, position);
  cache.forEach((kept, head) => {
    kept.k.push(found.K[head]);
    kept.v.push(found.V[head]);
  });
  return found;
}

/** {Q, K, V: [H](d_head)} of a token at a position; kept until another list is asked for. */
function projections(network, token, position) {
  const key = token * 2 * network.length + position;
  if (!network.seen.has(key)) {
    const y = normed(network, token, position);
    const of = (which) => Array.from({ length: network.heads },
      (_, head) => project(network, which, head, y));
    const asks = position >= network.length;
    network.seen.set(key, { K: of("K"), V: of("V"), Q: asks ? of("Q") : null });
  }
  return network.seen.get(key);
}

function answerOne(network, cache, token, position, ablated) {
  const { weights, width, heads, head: size, mean, vocab } = network;
  const { Q } = remember(network, cache, token, position);
  const resid = residual(network, token, position);
  const add = (row) => row.forEach((v, i) => { resid[i] += v; });
  const pattern = [];
  for (let head = 0; head < heads; head++) {
    pattern.push(softmax(cache[head].k.map((k) => dot(Q[head], k) / Math.sqrt(size))));
    const read = new Float64Array(size);
    cache[head].v.forEach((v, j) => v.forEach((x, i) => { read[i] += pattern[head][j] * x; }));
    if (ablated.includes(head)) add(mean.subarray(head * width, (head + 1) * width));
    else add(affine(read, ofHead(network, "W_O", head), null, width));
  }
  add(weights[`${ATTN}b_O`].values);
  const final = layerNorm(resid, weights["ln_final.w"], weights["ln_final.b"]);
  const logits = affine(final, weights["unembed.W_U"].values, weights["unembed.b_U"].values, vocab);
  const probabilities = softmax(logits);
  return { pattern, logits, probabilities, answer: logits.indexOf(largest(logits)) };
}

Object.assign(forTests, { networkOf, answer });
