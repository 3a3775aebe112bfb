"use strict";
// A trained model in a page: its weights, its symbols, a step of reading, and learning.
// Needs cells.js.

const LEARNING = { window: 16, rate: 6e-4, memory: 0.999, damping: 1e-8 };

// The bytes of a text in base64.
function bytesOf(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = letters.charCodeAt(k);
  return bytes;
}

// A matrix of the page's data, {shape, values, scales}, as numbers row by row. Rows of bytes have a
// scale each. file: values and scales are [from, to] in it; null: they are base64.
function weightsOf({ shape, values, scales }, file) {
  const bytes = (part) => (file ? file.slice(...part) : bytesOf(part).buffer);
  if (!scales) return new Float32Array(bytes(values));
  const width = shape[1], own = new Float32Array(bytes(scales));
  const small = new Int8Array(bytes(values)), weights = new Float32Array(small.length);
  own.forEach((scale, row) => {
    for (let k = row * width; k < (row + 1) * width; k++) weights[k] = small[k] * scale;
  });
  return weights;
}

class Model {
  // data: of charlm/exports/page.py. file: the weights, if they are not in the data.
  constructor(data, file = null) {
    const weight = (name) => (data.weights[name] ? weightsOf(data.weights[name], file) : null);
    this.size = data.hidden_size;
    this.embedding = weight("embedding.weight");
    this.embeddingSize = data.embedding_size;
    this.layers = Array.from({ length: data.num_layers }, (_, number) => ({
      kind: data.kind, size: data.hidden_size,
      ih: weight(`cells.${number}.weight_ih`), hh: weight(`cells.${number}.weight_hh`),
      bih: weight(`cells.${number}.bias_ih`), bhh: weight(`cells.${number}.bias_hh`),
    }));
    this.head = { weight: weight("head.weight"), bias: weight("head.bias") };
    this.symbols = new Symbols(data.vocabulary);
    this.vocabularySize = this.head.bias.length;
    this.inputs = []; // layer 0's share of the input by symbol, as far as it is known
    this.trained = null; // the weights before learning
  }

  initialStates() {
    return this.layers.map(initialState);
  }

  // Read a symbol: compute the states after it, and the logits of the next one.
  // clamp: {layer, unit, value}, or null.
  read(states, symbol, clamp = null) {
    if (symbol === this.symbols.end) states = this.initialStates();
    const seen = [];
    let x = this.embedding
      ? this.embedding.subarray(symbol * this.embeddingSize, (symbol + 1) * this.embeddingSize)
      : symbol;
    this.layers.forEach((layer, number) => {
      let input;
      if (number === 0) input = this.inputs[symbol] ??= inputShare(layer, x);
      const step = forward(layer, x, states[number], input);
      if (clamp && clamp.layer === number) hold(step, clamp.unit, clamp.value);
      seen.push(step);
      x = step.after.h;
    });
    return { seen, states: seen.map((step) => step.after), logits: this.logits(x), output: x };
  }

  logits(h) {
    const logits = Float64Array.from(this.head.bias);
    addProduct(logits, this.head.weight, h);
    return logits;
  }

  // Learn from a window of steps that were read, [{seen, logits, output, target}], as dynamic
  // evaluation does: the head and the last layer alone. A weight moves by its gradient over the
  // root of the mean square of its gradients so far.
  learn(steps) {
    const last = this.layers.at(-1), places = this.learned();
    this.trained ??= places.map((weights) => weights.slice());
    this.squares ??= places.map((weights) => new Float32Array(weights.length));
    this.updates = (this.updates ?? 0) + 1;
    const gradients = places.map((weights) => new Float32Array(weights.length));
    const [head, bias, ih, hh, bih, bhh] = gradients, own = { ih, hh, bih, bhh };
    let later = initialState(last);
    for (const { seen, logits, output, target } of steps.toReversed()) {
      const d = probabilities(logits);
      d[target] -= 1;
      for (let k = 0; k < d.length; k++) d[k] /= steps.length;
      addOuter(head, d, output);
      add(bias, d);
      addTransposed(later.h, this.head.weight, d);
      later = backward(last, seen.at(-1), later, own).before;
    }
    this.update(places, gradients);
    if (this.layers.length === 1) this.inputs = [];
  }

  update(places, gradients) {
    const { rate, memory, damping } = LEARNING, share = 1 - memory ** this.updates;
    places.forEach((weights, number) => {
      const own = gradients[number], squares = this.squares[number];
      for (let k = 0; k < weights.length; k++) {
        if (own[k] === 0 && squares[k] === 0) continue;
        squares[k] = memory * squares[k] + (1 - memory) * own[k] * own[k];
        weights[k] -= (rate * own[k]) / (Math.sqrt(squares[k] / share) + damping);
      }
    });
  }

  // The weights that `learn` changes.
  learned() {
    const last = this.layers.at(-1), biases = last.bih ? [last.bih, last.bhh] : [];
    return [this.head.weight, this.head.bias, last.ih, last.hh, ...biases];
  }

  // Take back all that was learned.
  forget() {
    if (this.trained) this.learned().forEach((weights, number) => weights.set(this.trained[number]));
    this.trained = this.squares = this.updates = null;
    this.inputs = [];
  }
}

// The symbols of a vocabulary: characters, bytes or jamo, the unknown one, the end of a record.
class Symbols {
  constructor({ unit, normalize, symbols, unknown, end }) {
    this.unit = unit;
    this.form = unit === "jamo" || normalize === "nfd" ? "NFD" : normalize === "nfc" ? "NFC" : "";
    this.isComposed = unit === "jamo" && normalize !== "nfd";
    this.symbols = symbols;
    this.unknown = unknown;
    this.end = end;
    this.indices = new Map((symbols ?? []).map((symbol, index) => [symbol, index]));
  }

  // The symbols of a text as {indices, unknown}: the second counts characters outside the
  // vocabulary, which are the unknown symbol or, if there is none, left out.
  encode(text) {
    if (this.unit === "byte") return { indices: [...new TextEncoder().encode(text)], unknown: 0 };
    const indices = [];
    let unknown = 0;
    for (const symbol of this.form ? text.normalize(this.form) : text) {
      const index = this.indices.get(symbol) ?? this.unknown;
      if (index === this.unknown) unknown += 1;
      if (index !== null) indices.push(index);
    }
    return { indices, unknown };
  }

  decode(indices) {
    if (this.unit === "byte") {
      const bytes = indices.map((index) => (index === this.end ? 10 : index));
      return new TextDecoder().decode(Uint8Array.from(bytes));
    }
    const text = indices.map((index) => this.symbol(index)).join("");
    return this.isComposed ? text.normalize("NFC") : text;
  }

  symbol(index) {
    if (index === this.end) return "\n";
    if (index === this.unknown) return "\ufffd";
    return this.unit === "byte" ? String.fromCharCode(index) : this.symbols[index];
  }

  // The symbol that is read before a text without a prompt, as by `charlm sample`.
  opening() {
    if (this.end !== null) return this.end;
    if (this.unit === "byte") return 10;
    return this.indices.get("\n") ?? 0;
  }
}
