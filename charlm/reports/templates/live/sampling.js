"use strict";
// The choice of a symbol, as in charlm/sampling: the same seed draws the same numbers.

// Probabilities by logits, at a temperature.
function probabilities(logits, temperature = 1) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const result = logits.map((value) => Math.exp((value - most) / temperature));
  const total = result.reduce((a, b) => a + b, 0);
  return result.map((value) => value / total);
}

// Choose a symbol's index by inverting the cumulative distribution at `uniform` in [0, 1).
// options: {temperature, topK, topP}; never: the index that is never chosen, or null.
function choose(logits, { temperature, topK, topP }, uniform, never = null) {
  let kept = Float64Array.from(logits);
  if (never !== null) kept[never] = -Infinity;
  if (temperature < 1e-6) return kept.indexOf(Math.max(...kept));
  if (topK > 0 && topK < kept.length) {
    const least = kept.toSorted().at(-topK);
    kept = kept.map((value) => (value < least ? -Infinity : value));
  }
  let chances = probabilities(kept, temperature);
  if (topP < 1) chances = reaching(chances, topP);
  const threshold = uniform * chances.reduce((a, b) => a + b, 0);
  let reached = 0, last = 0;
  for (let index = 0; index < chances.length; index++) {
    if (chances[index] === 0) continue;
    reached += chances[index];
    last = index;
    if (reached > threshold) break;
  }
  return last;
}

// Keep the fewest most probable symbols that reach p together.
function reaching(chances, p) {
  const order = Array.from(chances.keys()).sort((a, b) => chances[b] - chances[a] || a - b);
  const kept = new Float64Array(chances.length);
  let before = 0;
  for (const index of order) {
    if (before >= p && before > 0) break;
    kept[index] = chances[index];
    before += chances[index];
  }
  return kept;
}

// The indices of the largest values, the largest first.
function largest(values, count) {
  const best = [];
  values.forEach((value, index) => {
    if (best.length === count && value <= values[best.at(-1)]) return;
    const place = best.findIndex((other) => values[other] < value);
    best.splice(place < 0 ? best.length : place, 0, index);
    if (best.length > count) best.pop();
  });
  return best;
}

// Random numbers of the Mersenne Twister (Matsumoto and Nishimura 1998), uniform in [0, 1) with 53
// bits: those of charlm/sampling/uniforms.py.
class Uniforms {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let k = 1; k < 624; k++) {
      const before = this.state[k - 1] ^ (this.state[k - 1] >>> 30);
      this.state[k] = Math.imul(1812433253, before) + k;
    }
    this.place = 624;
  }

  twist() {
    const s = this.state;
    for (let k = 0; k < 624; k++) {
      const joined = (s[k] & 0x80000000) | (s[(k + 1) % 624] & 0x7fffffff);
      s[k] = s[(k + 397) % 624] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    }
    this.place = 0;
  }

  bits() {
    if (this.place === 624) this.twist();
    let y = this.state[this.place++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  next() {
    const high = this.bits() & 0x1fffff, low = this.bits();
    return (high * 2 ** 32 + low) / 2 ** 53;
  }
}
