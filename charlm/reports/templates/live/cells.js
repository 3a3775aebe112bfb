"use strict";
// The cells of charlm/cells, a layer and a symbol at a time, forward and backward, in plain loops.
//
// A layer is {kind, size, ih, hh, bih, bhh}: size is H, its number of units; ih [G H, I] and
// hh [G H, H] are row by row, a block of H rows for each of the G gates; bih and bhh are [G H],
// or null without biases. x is [I], or the number of a symbol in place of a one-hot vector.

const sigmoid = (a) => 1 / (1 + Math.exp(-a));

// Add the product of some rows of a matrix with x to sums[rows].
function addProduct(sums, matrix, x, first = 0, last = sums.length) {
  const width = x.length, even = width - (width % 4);
  for (let row = first; row < last; row++) {
    const start = row * width;
    let a = 0, b = 0, c = 0, d = 0;
    for (let k = 0; k < even; k += 4) {
      a += matrix[start + k] * x[k];
      b += matrix[start + k + 1] * x[k + 1];
      c += matrix[start + k + 2] * x[k + 2];
      d += matrix[start + k + 3] * x[k + 3];
    }
    for (let k = even; k < width; k++) a += matrix[start + k] * x[k];
    sums[row] += a + b + (c + d);
  }
}

// Add the product of a matrix's transpose with d[rows] to sums.
function addTransposed(sums, matrix, d, first = 0, last = d.length) {
  const width = sums.length;
  for (let row = first; row < last; row++) {
    const share = d[row], start = row * width;
    if (share !== 0) for (let k = 0; k < width; k++) sums[k] += matrix[start + k] * share;
  }
}

// Add the outer product of d[rows] and x to a matrix: the gradient of a product's matrix.
function addOuter(matrix, d, x, first = 0, last = d.length) {
  const width = x.length;
  for (let row = first; row < last; row++) {
    const share = d[row], start = row * width;
    if (share !== 0) for (let k = 0; k < width; k++) matrix[start + k] += share * x[k];
  }
}

function add(sums, values) {
  for (let k = 0; k < sums.length; k++) sums[k] += values[k];
}

// The input's share of every gate, W_ih x + b_ih.
function inputShare(layer, x) {
  const rows = layer.hh.length / layer.size, sums = new Float64Array(rows);
  if (layer.bih) sums.set(layer.bih);
  if (typeof x === "number") {
    const width = layer.ih.length / rows;
    for (let row = 0; row < rows; row++) sums[row] += layer.ih[row * width + x];
  } else {
    addProduct(sums, layer.ih, x);
  }
  return sums;
}

// The state's share of every gate, W_hh h + b_hh.
function stateShare(layer, h) {
  const sums = new Float64Array(layer.hh.length / layer.size);
  if (layer.bhh) sums.set(layer.bhh);
  addProduct(sums, layer.hh, h);
  return sums;
}

function vectors(names, size) {
  return Object.fromEntries(names.map((name) => [name, new Float64Array(size)]));
}

function rnn(squash, slope) {
  return {
    gates: ["h"], parts: ["h"],
    step(layer, seen) {
      const { input, state, after } = seen;
      for (let u = 0; u < layer.size; u++) after.h[u] = squash(input[u] + state[u]);
    },
    // The gradients of both shares, from those of the state after the step.
    back(layer, seen, d) {
      const da = new Float64Array(layer.size);
      for (let u = 0; u < layer.size; u++) da[u] = d.h[u] * slope(seen.after.h[u]);
      return { input: da, state: da, before: vectors(["h"], layer.size) };
    },
  };
}

const LSTM = {
  gates: ["i", "f", "g", "o"], parts: ["h", "c"],
  step(layer, { input, state, before, after, gates }) {
    const H = layer.size;
    for (let u = 0; u < H; u++) {
      const i = sigmoid(input[u] + state[u]);
      const f = sigmoid(input[H + u] + state[H + u]);
      const g = Math.tanh(input[2 * H + u] + state[2 * H + u]);
      const o = sigmoid(input[3 * H + u] + state[3 * H + u]);
      const c = f * before.c[u] + i * g;
      gates.i[u] = i; gates.f[u] = f; gates.g[u] = g; gates.o[u] = o;
      after.c[u] = c;
      after.h[u] = o * Math.tanh(c);
    }
  },
  back(layer, { before, after, gates }, d) {
    const H = layer.size, da = new Float64Array(4 * H), earlier = vectors(["h", "c"], H);
    for (let u = 0; u < H; u++) {
      const i = gates.i[u], f = gates.f[u], g = gates.g[u], o = gates.o[u];
      const shown = Math.tanh(after.c[u]);
      const dc = d.c[u] + d.h[u] * o * (1 - shown * shown);
      da[u] = dc * g * i * (1 - i);
      da[H + u] = dc * before.c[u] * f * (1 - f);
      da[2 * H + u] = dc * i * (1 - g * g);
      da[3 * H + u] = d.h[u] * shown * o * (1 - o);
      earlier.c[u] = dc * f;
    }
    return { input: da, state: da, before: earlier };
  },
};

// The GRU of torch and cuDNN: r acts on the product, z weighs the old state.
const GRU_AFTER = {
  gates: ["r", "z", "n"], parts: ["h"],
  step(layer, { input, state, before, after, gates }) {
    const H = layer.size;
    for (let u = 0; u < H; u++) {
      const r = sigmoid(input[u] + state[u]), z = sigmoid(input[H + u] + state[H + u]);
      const n = Math.tanh(input[2 * H + u] + r * state[2 * H + u]);
      gates.r[u] = r; gates.z[u] = z; gates.n[u] = n;
      after.h[u] = z * before.h[u] + (1 - z) * n;
    }
  },
  back(layer, { state, before, gates }, d) {
    const H = layer.size, da = new Float64Array(3 * H), earlier = vectors(["h"], H);
    const ds = new Float64Array(3 * H);
    for (let u = 0; u < H; u++) {
      const r = gates.r[u], z = gates.z[u], n = gates.n[u];
      const dn = d.h[u] * (1 - z) * (1 - n * n);
      ds[u] = da[u] = dn * state[2 * H + u] * r * (1 - r);
      ds[H + u] = da[H + u] = d.h[u] * (before.h[u] - n) * z * (1 - z);
      da[2 * H + u] = dn;
      ds[2 * H + u] = dn * r;
      earlier.h[u] = d.h[u] * z;
    }
    return { input: da, state: ds, before: earlier };
  },
};

// The lecture's GRU: r acts on the state before the product, z weighs the candidate.
const GRU_BEFORE = {
  gates: ["r", "z", "n"], parts: ["h"],
  isBefore: true,
  step(layer, { input, state, before, after, gates }) {
    const H = layer.size, reset = new Float64Array(H);
    for (let u = 0; u < H; u++) {
      gates.r[u] = sigmoid(input[u] + state[u]);
      gates.z[u] = sigmoid(input[H + u] + state[H + u]);
      reset[u] = gates.r[u] * before.h[u];
      state[2 * H + u] = layer.bhh ? layer.bhh[2 * H + u] : 0; // in place of W_n h
    }
    addProduct(state, layer.hh, reset, 2 * H, 3 * H);
    for (let u = 0; u < H; u++) {
      const z = gates.z[u], n = Math.tanh(input[2 * H + u] + state[2 * H + u]);
      gates.n[u] = n;
      after.h[u] = (1 - z) * before.h[u] + z * n;
    }
  },
  back(layer, { before, gates }, d) {
    const H = layer.size, da = new Float64Array(3 * H), earlier = vectors(["h"], H);
    const dreset = new Float64Array(H);
    for (let u = 0; u < H; u++) {
      const z = gates.z[u], n = gates.n[u];
      da[2 * H + u] = d.h[u] * z * (1 - n * n);
      da[H + u] = d.h[u] * (n - before.h[u]) * z * (1 - z);
      earlier.h[u] = d.h[u] * (1 - z);
    }
    addTransposed(dreset, layer.hh, da, 2 * H, 3 * H);
    for (let u = 0; u < H; u++) {
      const r = gates.r[u];
      da[u] = dreset[u] * before.h[u] * r * (1 - r);
      earlier.h[u] += dreset[u] * r;
    }
    return { input: da, state: da, before: earlier };
  },
};

const CELLS = {
  rnn_tanh: rnn(Math.tanh, (h) => 1 - h * h),
  rnn_relu: rnn((a) => Math.max(a, 0), (h) => (h > 0 ? 1 : 0)),
  lstm: LSTM,
  gru_after: GRU_AFTER,
  gru_before: GRU_BEFORE,
};

function initialState(layer) {
  return vectors(CELLS[layer.kind].parts, layer.size);
}

// One step forward. The result keeps all numbers of the equations: x, before, the two shares of
// the gates, the gates, after. input: W_ih x + b_ih, if it is known already.
function forward(layer, x, before, input = inputShare(layer, x)) {
  const cell = CELLS[layer.kind], state = stateShare(layer, before.h);
  const gates = vectors(cell.gates.filter((name) => name !== "h"), layer.size);
  const seen = { x, before, input, state, gates, after: initialState(layer) };
  cell.step(layer, seen);
  return seen;
}

// One step backward: add the gradients of the weights to `gradients` {ih, hh, bih, bhh}, and
// return those of the state before, {before}, and of x (null for a symbol).
// d: the gradient with respect to the state after, by part.
function backward(layer, seen, d, gradients) {
  const cell = CELLS[layer.kind], H = layer.size;
  const { input, state, before } = cell.back(layer, seen, d);
  const recurrent = cell.isBefore ? 2 * H : state.length; // rows that read h as it is
  addTransposed(before.h, layer.hh, state, 0, recurrent);
  addOuter(gradients.hh, state, seen.before.h, 0, recurrent);
  if (cell.isBefore) {
    const reset = seen.gates.r.map((r, u) => r * seen.before.h[u]);
    addOuter(gradients.hh, state, reset, 2 * H, 3 * H);
  }
  if (layer.bih) {
    add(gradients.bih, input);
    add(gradients.bhh, state);
  }
  if (typeof seen.x === "number") {
    const width = layer.ih.length / input.length;
    for (let row = 0; row < input.length; row++) gradients.ih[row * width + seen.x] += input[row];
    return { before, x: null };
  }
  addOuter(gradients.ih, input, seen.x);
  const dx = new Float64Array(seen.x.length);
  addTransposed(dx, layer.ih, input);
  return { before, x: dx };
}

// Set the memory of a unit after a step, as `hold` of charlm/cells does: c, with the h that the
// output gate then reveals; h in a cell that has no other state.
function hold(seen, unit, value) {
  const { after, gates } = seen;
  seen.held = unit;
  if (after.c) {
    after.c[unit] = value;
    after.h[unit] = gates.o[unit] * Math.tanh(value);
  } else {
    after.h[unit] = value;
  }
}

// The equations of a unit with the numbers of a step put in: [left side, right side] each.
function numbers(layer, seen, unit) {
  const H = layer.size, { input, state, gates, before, after } = seen;
  const show = (value) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(2);
  const plus = (a, b) => `${show(a)} ${b < 0 ? "\u2212" : "+"} ${Math.abs(b).toFixed(2)}`;
  const gate = (name, block, squash) => [
    name, `${squash}(${plus(input[block * H + unit], state[block * H + unit])})`, show(gates[name][unit])];
  const h = show(before.h[unit]);
  if (layer.kind === "lstm") {
    const { i, f, g, o } = gates, c = before.c[unit];
    return [
      gate("i", 0, "\u03c3"), gate("f", 1, "\u03c3"), gate("g", 2, "tanh"), gate("o", 3, "\u03c3"),
      ["c", `f c\u208b\u2081 + i g = ${show(f[unit])} \u00b7 ${show(c)} + ${show(i[unit])} \u00b7 ${show(g[unit])}`, show(after.c[unit])],
      ["h", `o tanh(c) = ${show(o[unit])} \u00b7 ${show(Math.tanh(after.c[unit]))}`, show(after.h[unit])],
    ];
  }
  if (gates.z) {
    const { r, z, n } = gates, late = layer.kind === "gru_after";
    const a = input[2 * H + unit], b = state[2 * H + unit];
    const candidate = late ? `tanh(${show(a)} + ${show(r[unit])} \u00b7 ${show(b)})` : `tanh(${plus(a, b)})`;
    const kept = late ? z[unit] : 1 - z[unit];
    const sides = late ? "z h\u208b\u2081 + (1 \u2212 z) n" : "(1 \u2212 z) h\u208b\u2081 + z n";
    return [
      gate("r", 0, "\u03c3"), gate("z", 1, "\u03c3"), ["n", candidate, show(n[unit])],
      ["h", `${sides} = ${show(kept)} \u00b7 ${h} + ${show(1 - kept)} \u00b7 ${show(n[unit])}`, show(after.h[unit])],
    ];
  }
  const squash = layer.kind === "rnn_relu" ? "relu" : "tanh";
  return [["h", `${squash}(${plus(input[unit], state[unit])})`, show(after.h[unit])]];
}
