"use strict";
// A model's reading of the page's text: the cost of every symbol, and the states, which are
// computed again from the nearest kept ones when they are asked for. Needs model.js, sampling.js.

const SPACING = 32; // symbols between kept states

class Reader {
  constructor(model) {
    this.model = model;
    this.clear();
  }

  clear() {
    this.read = []; // {index, clamp}: the index is null for a symbol that is left out
    this.bits = []; // null where left out
    this.sum = { bits: 0, count: 0 };
    this.kept = [];
    this.now = { states: this.model.initialStates(), logits: null, seen: null };
    this.last = null; // the step of the last symbol, as by `at`, if it is known
  }

  get length() {
    return this.read.length;
  }

  // Read a symbol that is not part of the text, before all others.
  open(index) {
    this.now = this.model.read(this.now.states, index);
  }

  append(index, clamp = null) {
    if (this.length % SPACING === 0) this.kept.push({ states: this.now.states, logits: this.now.logits });
    this.read.push({ index, clamp });
    const bits = index === null ? null : this.cost(this.now.logits, index);
    this.bits.push(bits);
    this.last = null;
    if (index === null) return;
    this.count(bits, 1);
    const { logits } = this.now;
    this.now = this.model.read(this.now.states, index, clamp);
    this.last = { place: this.length - 1, seen: this.now.seen, logits };
  }

  // Bits for a symbol; before any other, all symbols are equally likely.
  cost(logits, index) {
    if (!logits) return Math.log2(this.model.vocabularySize);
    return -Math.log2(probabilities(logits)[index]);
  }

  // Forget the text from a place on.
  cut(place) {
    if (place >= this.length) return;
    this.now = this.before(place);
    this.last = null;
    for (const bits of this.bits.slice(place)) if (bits !== null) this.count(bits, -1);
    this.read.length = this.bits.length = place;
    this.kept.length = Math.ceil(place / SPACING);
  }

  // The states and logits before the symbol at a place.
  before(place) {
    if (place === this.length) return this.now;
    const start = Math.floor(place / SPACING);
    let now = { ...this.kept[start], seen: null };
    for (let k = start * SPACING; k < place; k++) now = this.step(now, k);
    return now;
  }

  step(now, place) {
    const { index, clamp } = this.read[place];
    return index === null ? now : this.model.read(now.states, index, clamp);
  }

  // The steps from one place to another, in order: {place, seen, logits}; the logits are those
  // before the symbol.
  *steps(from, to) {
    let now = this.before(from);
    for (let place = from; place < to; place++) {
      const { logits } = now;
      now = this.step(now, place);
      yield { place, seen: now.seen, logits };
    }
  }

  at(place) {
    if (place === this.last?.place && !this.model.trained) return this.last; // learning changes steps
    return this.steps(place, place + 1).next().value;
  }

  count(bits, sign) {
    this.sum.bits += sign * bits;
    this.sum.count += sign;
  }

  // Bits per character, of the symbols that were not left out. The first of a text counts, as in
  // `charlm score`.
  mean() {
    return this.sum.count ? this.sum.bits / this.sum.count : null;
  }
}
