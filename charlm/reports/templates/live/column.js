"use strict";
// A model's column of the page: its text, gates, the chosen unit, and places where units are on again.
// Needs cells.js, sampling.js, model.js, text.js, reader.js, and the object `page` of live.js.

const data = JSON.parse(document.getElementById("data").textContent);
const say = (name, values = {}) => data.words[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
const field = (name) => document.getElementById(name);
const rounded = (value, digits = 2) => value.toFixed(digits).replace("-", "\u2212");
const whole = (value) => Math.round(value).toLocaleString("en");

const MOST = 20000; // symbols of the page's text
const AT_FIRST = 300; // most symbols that are written when the page opens
const OPENING = 500; // milliseconds of writing when the page opens, at most
const TRACED = 1000; // symbols whose values of a unit are shown
const SEARCHED = 5000; // symbols in which a pattern is searched
const FRAME = 14; // milliseconds of writing per frame
const SPEEDS = [5, 20, 60, 200, Infinity]; // characters a second

// ---- A model's column of the page ----------------------------------------------------------------

class Column {
  constructor(model, about) {
    this.model = model;
    this.about = about;
    this.reader = new Reader(model);
    this.root = field("column").content.firstElementChild.cloneNode(true);
    this.part = (name) => this.root.querySelector(`[data-part="${name}"]`);
    this.part("name").textContent = about.name;
    this.part("name").hidden = data.models.length === 1;
    this.text = new ColouredText(this.part("text"), (place, how) => page.select(place, how),
      (span, place) => this.paint(span, place));
    this.unit = { layer: 0, unit: 0 };
    this.values = { from: 0, known: [] };
    this.makeUnits();
    this.makeGates();
    this.part("find").addEventListener("click", () => this.find());
    this.part("text").setAttribute("aria-label", say("text_label", { name: about.name }));
    field("columns").append(this.root);
  }

  get layer() {
    return this.model.layers[this.unit.layer];
  }

  // The clamp for the symbols that are read next.
  get clamp() {
    return this.part("hold").checked ? { ...this.unit, value: Number(this.part("value").value) } : null;
  }

  paint(span, place) {
    const byUnit = this.part("by-unit").checked;
    const value = byUnit ? this.values.known[place - this.values.from] : this.reader.bits[place];
    if (value === undefined || value === null) span.style.background = "";
    else if (byUnit) span.style.background = tint(value, 0.6);
    else span.style.background = `rgb(213 94 0 / ${heatOf(value)})`;
  }

  // ---- gates and states, as squares of units ----

  makeGates() {
    const { gates, parts } = CELLS[this.model.layers[0].kind];
    const names = [...gates.filter((name) => name !== "h"), ...parts.toReversed()];
    this.pictures = this.model.layers.map((layer, number) => {
      const row = document.createElement("div");
      row.className = "squares";
      if (this.model.layers.length > 1) {
        const title = document.createElement("h4");
        title.textContent = say("layer", { number });
        this.part("gates").append(title);
      }
      this.part("gates").append(row);
      return names.map((name) => {
        const figure = document.createElement("figure"), canvas = document.createElement("canvas");
        const caption = document.createElement("figcaption"), letter = document.createElement("b");
        letter.textContent = name;
        caption.append(letter, ` ${say(`gate_${name}`)}`);
        canvas.width = Math.ceil(Math.sqrt(layer.size));
        canvas.height = Math.ceil(layer.size / canvas.width);
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `${name}, ${say(`gate_${name}`)}`);
        canvas.addEventListener("pointerdown", (event) => {
          const box = canvas.getBoundingClientRect();
          const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
          const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
          this.choose(number, Math.min(layer.size - 1, y * canvas.width + x));
        });
        figure.append(canvas, caption);
        row.append(figure);
        return { name, canvas, isGate: "ifozr".includes(name) };
      });
    });
  }

  drawGates(seen) {
    const ink = getComputedStyle(document.body).color.match(/\d+/g).slice(0, 3).map(Number);
    this.pictures.forEach((pictures, number) => pictures.forEach(({ name, canvas, isGate }) => {
      const pen = canvas.getContext("2d"), values = seen[number].gates[name] ?? seen[number].after[name];
      const picture = pen.createImageData(canvas.width, canvas.height);
      const colour = (unit, rgb, strength) => picture.data.set([...rgb, 255 * strength], 4 * unit);
      values.forEach((value, unit) => {
        colour(unit, value > 0 && !isGate ? ORANGE : BLUE, Math.min(1, Math.abs(value)));
      });
      if (number === this.unit.layer) colour(this.unit.unit, ink, 0.85);
      pen.putImageData(picture, 0, 0);
    }));
  }

  // ---- the chosen unit ----

  makeUnits() {
    const layers = this.part("layer"), names = this.part("names"), number = this.part("unit");
    this.model.layers.forEach((_, k) => layers.append(new Option(say("layer", { number: k }), k)));
    layers.parentElement.hidden = this.model.layers.length === 1;
    number.max = this.model.size - 1;
    names.append(new Option(say("by_number"), ""));
    this.about.units.forEach((unit, k) => {
      const label = `${unit.feature}: ${say("layer", { number: unit.layer })}, ${unit.unit} (${rounded(unit.held_out)})`;
      names.append(new Option(label, k));
    });
    names.parentElement.hidden = !this.about.units.length;
    names.addEventListener("change", () => {
      const unit = this.about.units[names.value];
      if (unit) this.choose(unit.layer, unit.unit, unit);
    });
    layers.addEventListener("change", () => this.choose(Number(layers.value), this.unit.unit));
    number.addEventListener("change", () => {
      const asked = Math.round(Number(number.value) || 0);
      this.choose(this.unit.layer, Math.min(this.model.size - 1, Math.max(0, asked)));
    });
    for (const name of ["by-unit", "by-bits"]) {
      this.part(name).name = `colours-${this.about.name}-${data.models.indexOf(this.about)}`;
      this.part(name).addEventListener("change", () => this.text.repaint());
    }
    const value = this.part("value");
    value.addEventListener("input", () => { this.part("value-shown").textContent = rounded(Number(value.value), 1); });
    const first = this.about.units[0];
    if (first) {
      this.unit = { layer: first.layer, unit: first.unit };
      names.value = "0";
      this.offer(first);
    }
    layers.value = this.unit.layer;
    number.value = this.unit.unit;
  }

  // Choose a unit. named: its entry in the list of names, if it was chosen there.
  choose(layer, unit, named = null) {
    this.unit = { layer, unit };
    this.part("layer").value = layer;
    this.part("unit").value = unit;
    if (!named) this.part("names").value = "";
    else this.offer(named);
    this.values = { from: this.reader.length, known: [] };
    page.show();
    this.trace();
  }

  // Set the slider to the end of a named unit's range at which its property is there.
  offer({ low, high, held_out }) {
    const value = this.part("value"), end = Math.ceil(Math.max(3, Math.abs(low), Math.abs(high)));
    value.min = -end;
    value.max = end;
    value.value = held_out < 0 ? low : high;
    this.part("value-shown").textContent = rounded(Number(value.value), 1);
  }

  // The memory of the chosen unit after a step.
  memory(seen) {
    const { after } = seen[this.unit.layer];
    return (after.c ?? after.h)[this.unit.unit];
  }

  // Compute the chosen unit's values over the end of the text, a piece at a time.
  trace() {
    const { length } = this.reader, from = Math.max(0, length - TRACED);
    const known = [], unit = this.unit, steps = this.reader.steps(from, length);
    const piece = () => {
      if (this.unit !== unit || this.reader.length !== length) return;
      const until = performance.now() + FRAME;
      for (const { seen } of take(steps, until)) known.push(seen ? this.memory(seen) : 0);
      if (known.length < length - from) return setTimeout(piece);
      this.values = { from, known };
      if (this.part("by-unit").checked) this.text.repaint();
      this.drawLine();
    };
    piece();
  }

  // Draw the values of the chosen unit along the text, up to the place that is shown.
  drawLine() {
    const canvas = this.part("line"), pen = canvas.getContext("2d"), { from, known } = this.values;
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    const style = getComputedStyle(document.body), count = 240;
    const last = Math.min(known.length, Math.max(page.here - from + 1, Math.min(count, known.length)));
    const shown = known.slice(Math.max(0, last - count), last);
    const most = Math.max(1, ...shown.map(Math.abs)), high = canvas.height / 2;
    const edge = 5 * devicePixelRatio;
    const x = (k) => edge + (k / Math.max(1, count - 1)) * (canvas.width - 2 * edge), y = (value) => high - (value / most) * (high - edge);
    pen.lineWidth = devicePixelRatio;
    pen.strokeStyle = style.getPropertyValue("--line");
    pen.strokeRect(0, high, canvas.width, 0.1);
    pen.strokeStyle = style.color;
    pen.beginPath();
    shown.forEach((value, k) => (k ? pen.lineTo(x(k), y(value)) : pen.moveTo(x(k), y(value))));
    pen.stroke();
    const place = page.here - from - Math.max(0, last - count);
    if (shown[place] !== undefined) {
      pen.fillStyle = "rgb(213 94 0)";
      pen.beginPath();
      pen.arc(x(place), y(shown[place]), 4 * devicePixelRatio, 0, 7);
      pen.fill();
    }
    const state = this.model.layers[0].kind === "lstm" ? "c" : "h";
    const range = { least: rounded(Math.min(...shown)), most: rounded(Math.max(...shown)) };
    this.part("line-says").textContent = shown.length ? say("line", { state, count: shown.length, ...range }) : "";
  }

  drawEquations(seen) {
    const table = this.part("equations");
    table.replaceChildren();
    const rows = numbers(this.layer, seen[this.unit.layer], this.unit.unit);
    this.part("equations-say").textContent = this.about.equations;
    const step = seen[this.unit.layer], memory = step.after.c ? "c" : "h";
    for (let [left, right, value] of rows) {
      if (step.held === this.unit.unit && left === memory) right = say("held");
      const row = table.insertRow();
      row.insertCell().append(left);
      row.insertCell().append(`= ${right}`);
      row.insertCell().append(`=\u00a0${value}`);
    }
  }

  // ---- the character that is shown ----

  show(place) {
    this.text.mark(place);
    const { seen, logits } = this.reader.at(place);
    this.drawLikely(place, logits);
    if (!seen) return;
    this.drawGates(seen);
    this.drawEquations(seen);
    this.drawLine();
  }

  drawLikely(place, logits) {
    const says = this.part("likely-says"), { index } = this.reader.read[place];
    const { symbols } = this.model, bits = this.reader.bits[place];
    if (index === null) says.textContent = say("left_out");
    else {
      const now = this.model.trained && logits ? this.reader.cost(logits, index) : bits;
      says.textContent = say(this.model.trained ? "took_now" : "took",
        { symbol: named(symbols.symbol(index)), bits: rounded(bits, 1), now: rounded(now, 1) });
    }
    if (!logits) return this.part("likely").replaceChildren();
    const chances = probabilities(logits), best = largest(chances, 5);
    const name = (k) => (k === symbols.unknown ? say("unknown") : k === symbols.end ? say("end") : named(symbols.symbol(k)));
    const rows = best.map((k) => ({ name: name(k), chance: chances[k], isIt: k === index }));
    this.part("likely").replaceChildren(likelyTable(rows, (number) => page.replace(place, this, best[number])));
  }

  // ---- units that are on over a stretch ----

  find() {
    const selected = this.selected(), says = this.part("found-says"), list = this.part("found");
    list.replaceChildren();
    if (!selected) return (says.textContent = say("select_first"));
    const [from, to] = selected, stretch = [...this.reader.steps(from, to)].filter((step) => step.seen);
    const all = unitsOn(stretch.map((step) => step.seen), 0), least = Number(this.part("least").value);
    const units = all.filter(({ nearest }) => nearest >= least);
    if (!units.length) return (says.textContent = say("none_on", { least: rounded(all[0]?.nearest ?? 0, 3) }));
    units.forEach((unit) => { unit.least = least; });
    says.textContent = say("searching");
    const start = Math.max(0, this.reader.length - SEARCHED), counts = [];
    const steps = this.reader.steps(start, this.reader.length), { length } = this.reader;
    const piece = () => {
      if (this.reader.length !== length) return (says.textContent = say("changed"));
      for (const { seen } of take(steps, performance.now() + FRAME)) counts.push(seen ? countOn(seen, units) : 0);
      if (counts.length < length - start) return setTimeout(piece);
      this.drawFound(units, bestPlaces(counts, start, from, to), to - from);
    };
    piece();
  }

  // The places of the text that is selected in this column, [from, to), or null.
  selected() {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) return null;
    const range = selection.getRangeAt(0);
    if (!this.part("text").contains(range.commonAncestorContainer)) return null;
    const place = (node, first) => (node.nodeType === 3 ? node.parentElement : node.children[first ? 0 : node.children.length - 1])?.dataset.place;
    const from = place(range.startContainer, true), to = place(range.endContainer, false);
    if (from === undefined || to === undefined) return null;
    const stop = range.endOffset === 0 ? Number(to) : Number(to) + 1;
    return Number(from) < stop ? [Number(from), stop] : null;
  }

  drawFound(units, places, length) {
    this.part("found-says").replaceChildren(say("on", { count: units.length }), " ");
    for (const { layer, unit, sign } of units.slice(0, 12)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${sign < 0 ? "\u2212" : "+"}${this.model.layers.length > 1 ? `${layer}.` : ""}${unit}`;
      button.addEventListener("click", () => this.choose(layer, unit));
      this.part("found-says").append(button, " ");
    }
    this.part("found-says").append(units.length > 12 ? "\u2026 " : "", say("where"));
    for (const { place, share } of places) {
      const item = document.createElement("li"), button = document.createElement("button");
      const name = (a, b) => this.reader.read.slice(Math.max(0, a), b).map(({ index }) =>
        (index === null ? "" : visible(this.model.symbols.symbol(index)))).join("");
      const middle = document.createElement("b");
      middle.textContent = name(place, place + length);
      button.type = "button";
      button.append(name(place - 20, place), middle, name(place + length, place + length + 20));
      button.addEventListener("click", () => page.select(place, "key"));
      item.append(button, ` ${say("share", { share: Math.round(100 * share) })}`);
      this.part("found").append(item);
    }
    if (!places.length) this.part("found").append(say("nowhere"));
  }
}

// Take from an iterator until a time.
function* take(steps, until) {
  while (performance.now() < until) {
    const { done, value } = steps.next();
    if (done) return;
    yield value;
  }
}

// List the units whose h stays on one side of zero, at least `least` away, over all steps of a stretch:
// {layer, unit, sign}, those farthest from zero first.
function unitsOn(stretch, least) {
  const units = [];
  stretch[0]?.forEach((step, layer) => step.after.h.forEach((first, unit) => {
    const sign = Math.sign(first);
    const nearest = Math.min(...stretch.map((seen) => sign * seen[layer].after.h[unit]));
    if (nearest >= least) units.push({ layer, unit, sign, nearest });
  }));
  return units.sort((a, b) => b.nearest - a.nearest);
}

function countOn(seen, units) {
  return units.filter(({ layer, unit, sign, least }) => sign * seen[layer].after.h[unit] >= least).length / units.length;
}

// List the stretches as long as [from, to), apart from it and each other, over which the largest share
// of units is on: {place, share}. counts: the share at each place from `start` on.
function bestPlaces(counts, start, from, to) {
  const length = to - from, sums = [0];
  counts.forEach((share, k) => sums.push(sums[k] + share));
  const all = [];
  for (let k = 0; k + length <= counts.length; k++) all.push({ place: start + k, share: (sums[k + length] - sums[k]) / length });
  const found = [], isApart = (a, b) => Math.abs(a - b) >= length;
  for (const one of all.sort((a, b) => b.share - a.share)) {
    if (isApart(one.place, from) && found.every((other) => isApart(other.place, one.place))) found.push(one);
    if (found.length === 8) break;
  }
  return found;
}
