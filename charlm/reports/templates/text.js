"use strict";
// A coloured text that is read by pointer and arrow keys, and the table of likely symbols. Shared by
// the pages that show a text.

// A symbol as it is shown: control characters as pictures or escapes, as in charlm/text/display.py.
function visible(symbol) {
  const code = symbol.codePointAt(0);
  if (symbol === "\n") return "\u21b5";
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  if (/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u.test(symbol)) {
    return `\\u${code.toString(16).padStart(4, "0")}`;
  }
  return symbol;
}

// A symbol within a sentence, where a space must be seen.
function named(symbol) {
  return symbol === " " ? "\u2423" : visible(symbol);
}

const ORANGE = [213, 94, 0], BLUE = [0, 114, 178];

// The colour of a value from -1 (blue) to 1 (orange).
function tint(value, strength) {
  const size = Math.min(1, Math.abs(value)) * strength;
  return size < 0.02 ? "" : `rgb(${(value > 0 ? ORANGE : BLUE).join(" ")} / ${size.toFixed(2)})`;
}

// The opacity of the colour for a surprisal in bits.
function heatOf(bits) {
  return Math.min(0.6, (bits / 16) * 1.2).toFixed(2);
}

class ColouredText {
  // element: an empty one that can have the focus. select: called with the place that the reader
  // points at. paint: called with a span and its place.
  constructor(element, select, paint) {
    this.element = element;
    this.select = select;
    this.paint = paint;
    this.start = 0; // the place of the first span
    this.here = -1;
    element.addEventListener("keydown", (event) => this.press(event));
    for (const kind of ["pointerover", "click"]) {
      element.addEventListener(kind, (event) => {
        const place = event.target.dataset.place;
        if (place !== undefined && !(kind === "pointerover" && event.buttons)) select(Number(place), kind);
      });
    }
  }

  get end() {
    return this.start + this.element.children.length;
  }

  // Replace all of the text, or a part of a longer one that begins at `start`.
  show(symbols, start = 0) {
    this.start = start;
    this.here = -1;
    this.element.replaceChildren();
    this.add(symbols);
  }

  add(symbols) {
    const piece = document.createDocumentFragment();
    let place = this.end;
    for (const symbol of symbols) {
      const span = document.createElement("span");
      span.dataset.place = place;
      span.textContent = symbol === "\n" ? "\u21b5\n" : symbol === "\t" ? "\t" : visible(symbol);
      if (symbol === "\n") span.className = "break";
      this.paint(span, place);
      piece.append(span);
      place += 1;
    }
    this.element.append(piece);
  }

  cut(place) {
    while (this.end > place) this.element.lastChild.remove();
    if (this.here >= place) this.here = -1;
  }

  repaint() {
    Array.from(this.element.children).forEach((span, k) => this.paint(span, this.start + k));
  }

  mark(place) {
    this.element.children[this.here - this.start]?.classList.remove("here");
    this.here = place;
    this.element.children[place - this.start]?.classList.add("here");
  }

  // Bring the marked place into view within the text, without moving the page.
  follow() {
    const span = this.element.children[this.here - this.start], box = this.element;
    if (!span || box.scrollHeight <= box.clientHeight) return;
    const top = span.offsetTop - box.offsetTop;
    if (top < box.scrollTop) box.scrollTop = top - 8;
    if (top + 40 > box.scrollTop + box.clientHeight) box.scrollTop = top + 40 - box.clientHeight;
  }

  press(event) {
    const steps = {
      ArrowLeft: () => this.here - 1, ArrowRight: () => this.here + 1,
      ArrowUp: () => this.line(-1), ArrowDown: () => this.line(1),
      Home: () => this.start, End: () => this.end - 1,
    };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const from = event.shiftKey ? (this.anchor ?? this.here) : null;
    this.select(steps[event.key](), "key");
    this.anchor = from;
    const first = this.element.children[from - this.start], last = this.element.children[this.here - this.start];
    if (from !== null && first && last) getSelection().setBaseAndExtent(...this.ends(first, last, from <= this.here));
  }

  // The ends of a selection of whole symbols from one span to another.
  ends(first, last, isForward) {
    const [a, b] = [first.firstChild, last.firstChild];
    return isForward ? [a, 0, b, b.length] : [a, a.length, b, 0];
  }

  // The place of the next line's start, or of the end of the line before.
  line(direction) {
    const isBreak = (place) => this.element.children[place - this.start]?.className.includes("break") ?? true;
    let place = this.here + direction;
    while (place > this.start && place < this.end - 1 && !isBreak(place)) place += direction;
    return place + (direction > 0 ? 1 : 0);
  }
}

// A table of likely symbols. rows: {name, chance, isIt}. choose: called with a row's number when it
// is clicked; without it the rows are no buttons.
function likelyTable(rows, choose = null) {
  const table = document.createElement("table");
  rows.forEach(({ name, chance, isIt }, number) => {
    const row = table.insertRow(), bar = document.createElement("i");
    let first = document.createElement("span");
    if (choose) {
      first = document.createElement("button");
      first.type = "button";
      first.addEventListener("click", () => choose(number));
    }
    first.textContent = name;
    bar.className = "bar";
    bar.style.width = `${(9 * chance).toFixed(2)}rem`;
    if (isIt) row.className = "is";
    row.insertCell().append(first);
    row.insertCell().append(`${(100 * chance).toFixed(chance < 0.1 ? 1 : 0)} %`);
    row.insertCell().append(bar);
  });
  table.className = "likely";
  return table;
}
