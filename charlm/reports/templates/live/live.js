"use strict";
// The page of a trained model: it writes, reads and learns; its columns show it. Needs column.js.

const page = {
  columns: [],
  here: 0,
  isWriting: false,
  isFollowing: true,
  busy: null, // a reading of a long text, until it ends or is stopped

  async begin() {
    const file = data.fetches ? await this.fetch() : null;
    if (data.fetches && !file) return;
    data.models.forEach((about) => this.columns.push(new Column(new Model(about, file), about)));
    const { temperature, top_k, top_p } = data.models[0].sample;
    field("temperature").value = temperature;
    field("top-k").value = top_k;
    field("top-p").value = top_p;
    this.columns.forEach(({ about }, k) => field("writer").append(new Option(about.name, k)));
    field("writer").parentElement.hidden = this.columns.length === 1;
    this.listen();
    this.showSettings();
    this.writeFirst();
  },

  // Fetch the weights from the server that the page came from; null if it does not send them.
  async fetch() {
    field("status").textContent = say("fetching");
    const address = new URL("weights", location.origin + location.pathname); // without a password
    const answer = await fetch(address).catch(() => null); // the server has gone
    const file = answer?.ok ? await answer.arrayBuffer().catch(() => null) : null;
    if (!file) field("status").textContent = say("not_fetched");
    return file;
  },

  // Write a text to look at.
  writeFirst() {
    this.restart();
    this.write(Math.min(AT_FIRST, data.models[0].sample.length), performance.now() + OPENING);
    this.isFollowing = true;
    this.finish();
  },

  listen() {
    field("write").addEventListener("click", () => (this.isWriting ? this.pause() : this.play()));
    field("again").addEventListener("click", () => { this.restart(); this.play(); });
    field("copy").addEventListener("click", () => this.copy());
    field("read").addEventListener("click", () => this.readOwn(false));
    field("learn").addEventListener("click", () => this.readOwn(true));
    field("unlearn").addEventListener("click", () => this.unlearn());
    field("stop-reading").addEventListener("click", () => this.stopReading());
    for (const name of ["temperature", "top-p", "speed"]) field(name).addEventListener("input", () => this.showSettings());
    addEventListener("resize", () => this.show());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.show());
  },

  get writer() {
    return this.columns[Number(field("writer").value) || 0];
  },

  get length() {
    return this.columns[0].reader.length;
  },

  settings() {
    const number = (name, least, most, otherwise) => {
      const value = field(name).value.trim() === "" ? NaN : Number(field(name).value);
      return Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : otherwise;
    };
    return {
      temperature: number("temperature", 0, 10, 1), topK: Math.round(number("top-k", 0, 1e9, 0)),
      topP: number("top-p", 0, 1, 1), seed: Math.round(number("seed", 0, 2 ** 53, 0)),
      speed: SPEEDS[Number(field("speed").value)],
    };
  },

  showSettings() {
    const { temperature, topP, speed } = this.settings();
    field("temperature-shown").textContent = rounded(temperature, 2);
    field("top-p-shown").textContent = rounded(topP, 2);
    field("speed-shown").textContent = speed === Infinity ? say("full_speed") : say("speed", { speed });
  },

  // ---- writing ----

  // Begin anew, with the prompt.
  restart() {
    this.stopReading();
    this.columns.forEach((column) => {
      column.reader.clear();
      column.text.show([]);
      column.values = { from: 0, known: [] };
      for (const name of ["found", "found-says"]) column.part(name).replaceChildren();
    });
    this.random = new Uniforms(this.settings().seed);
    const { symbols } = this.writer.model, given = symbols.encode(field("prompt").value);
    const opening = symbols.opening(), isShown = opening !== symbols.end && symbols.symbol(opening).trim() !== "";
    if (!given.indices.length && isShown) given.indices = [opening];
    this.columns.forEach(({ model, reader }) => {
      if (symbols.end !== null || !given.indices.length) reader.open(model.symbols.opening());
    });
    this.unknown = given.unknown;
    this.tail = "";
    this.append(given.indices.slice(0, MOST - 1), this.writer);
    this.here = Math.max(0, this.length - 1);
    this.wrote = { count: 0, milliseconds: 0 };
  },

  // Append symbols, given by their indices in a column's model, to the text of all columns.
  append(indices, from) {
    for (const column of this.columns) {
      const own = column === from ? indices : indices.map((index) => translated(index, from.model.symbols, column.model.symbols));
      for (const index of own) {
        column.reader.append(index, column.clamp);
        if (column.reader.now.seen) column.values.known.push(column.memory(column.reader.now.seen));
      }
      column.text.add(indices.map((index) => from.model.symbols.symbol(index)));
    }
  },

  // Write at most `count` symbols until a time; return the number.
  write(count, until) {
    const { writer } = this, settings = this.settings(), stop = field("stop").value;
    const { symbols } = writer.model, written = [];
    while (written.length < count && this.length < MOST && performance.now() < until) {
      const index = choose(writer.reader.now.logits, settings, this.random.next(), symbols.unknown);
      this.append([index], writer);
      written.push(index);
      if (stop) {
        this.tail = (this.tail + symbols.symbol(index)).slice(-stop.length);
        if (this.tail === stop) break;
      }
    }
    this.isOver = this.length >= MOST || (stop !== "" && this.tail === stop);
    return written.length;
  },

  play() {
    if (this.isWriting) return;
    this.stopReading();
    if (this.length >= MOST) return (field("status").textContent = say("full", { most: whole(MOST) }));
    this.isWriting = this.isFollowing = true;
    this.tail = "";
    field("write").textContent = say("pause");
    let last = performance.now(), due = 1;
    const frame = () => {
      if (!this.isWriting) return;
      const now = performance.now(), { speed } = this.settings(), { length } = this;
      due = speed === Infinity ? Infinity : Math.min(due + ((now - last) * speed) / 1000, speed);
      const passed = now - last;
      last = now;
      if (due >= 1) {
        due -= this.write(Math.floor(due), now + FRAME);
        if (speed === Infinity) { // drawing included: the time from frame to frame
          this.wrote.count += this.length - length;
          this.wrote.milliseconds += passed;
        }
        this.here = this.length - 1;
        this.show();
      }
      if (this.isOver) return this.pause();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  },

  pause() {
    this.isWriting = false;
    field("write").textContent = say("write");
    this.finish();
    if (this.length >= MOST) field("status").textContent = say("full", { most: whole(MOST) });
  },

  // Bring all parts up to date after the text has changed.
  finish() {
    this.here = Math.max(0, Math.min(this.here, this.length - 1));
    if (this.isFollowing) this.here = Math.max(0, this.length - 1);
    this.columns.forEach((column) => column.trace());
    this.show();
  },

  // Put a likely symbol in the place of another, and go on from there.
  replace(place, column, index) {
    this.stopReading();
    this.columns.forEach((one) => {
      one.reader.cut(place);
      one.text.cut(place);
      one.values.known.length = Math.max(0, Math.min(one.values.known.length, place - one.values.from));
    });
    this.append([index], column);
    this.here = this.length - 1;
    this.isFollowing = true;
    if (this.isWriting) this.show();
    else this.play();
  },

  // ---- showing ----

  select(place, how) {
    if (how === "pointerover" && this.isWriting) return;
    this.here = Math.max(0, Math.min(this.length - 1, place));
    if (how !== "pointerover" && this.isWriting) this.pause();
    this.isFollowing = false;
    this.show();
  },

  show() {
    if (this.length) this.columns.forEach((column) => { column.show(this.here); if (this.isFollowing || !this.isWriting) column.text.follow(); });
    const { count, milliseconds } = this.wrote;
    const unknown = this.unknown ? ` ${say("unknown_count", { count: this.unknown })}` : "";
    field("status").textContent = say("length", { count: whole(this.length) }) + unknown
      + (count > 50 ? ` ${say("wrote", { speed: whole((1000 * count) / milliseconds) })}` : "");
    this.columns.forEach((column) => {
      const bits = column.reader.mean();
      column.part("bits").textContent = bits === null ? "" : say("bits", { bits: rounded(bits, 3) });
    });
  },

  async copy() {
    const { model, reader } = this.columns[0];
    const text = model.symbols.decode(reader.read.map(({ index }) => index).filter((index) => index !== null));
    const area = document.createElement("textarea"); // from a file there is no clipboard without asking
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    field("copy").focus();
    field("status").textContent = say("copied");
  },

  // ---- the reader's own text ----

  // Read the pasted text and, if asked for, learn from each window after it was read.
  readOwn(isLearning) {
    const text = field("own").value;
    if (!text) return (field("own-says").textContent = say("paste_first"));
    const given = this.columns[0].model.symbols.encode(text.slice(0, 2 * MOST));
    const indices = given.indices.slice(0, MOST), isWhole = text.length <= MOST && given.indices.length <= MOST;
    if (!indices.length) return (field("own-says").textContent = say("nothing_known"));
    this.read(indices, given.unknown, isLearning, (bits) => {
      let says = say(isLearning ? "learned" : "scored", { bits, count: whole(this.length) });
      if (isLearning && this.ownBits) says += ` ${say("before_learning", { bits: this.ownBits })}`;
      if (!isLearning) this.ownBits = bits;
      return isWhole ? says : `${says} ${say("only_first", { most: whole(MOST) })}`;
    });
  },

  // Read symbols in place of the text, a piece at a time. says: the sentence at the end, by the bits
  // per character of each model.
  read(indices, unknown, isLearning, says) {
    if (this.isWriting) this.pause();
    this.restartWith(unknown);
    const { symbols } = this.columns[0].model, began = performance.now();
    const state = (this.busy = { isLearning, at: 0, windows: this.columns.map(() => []) });
    field("stop-reading").hidden = false;
    const piece = () => {
      if (this.busy !== state) return;
      const until = performance.now() + 2 * FRAME, first = state.at;
      while (state.at < indices.length && performance.now() < until) this.readNext(indices[state.at++], state);
      this.columns.forEach((column) => column.text.add(indices.slice(first, state.at).map((index) => symbols.symbol(index))));
      const left = ((performance.now() - began) / 1000) * (indices.length / state.at - 1);
      field("own-says").textContent = say("reading", { count: whole(state.at), total: whole(indices.length), seconds: Math.ceil(left) });
      if (state.at < indices.length) return setTimeout(piece);
      const bits = this.columns.map((column) => rounded(column.reader.mean() ?? 0, 3)).join(" / ");
      this.stopReading();
      field("own-says").textContent = says(bits);
      field("columns").scrollIntoView({ block: "nearest" });
    };
    piece();
  },

  restartWith(unknown) {
    field("own-says").textContent = "";
    this.restart();
    this.columns.forEach(({ model, reader, text }) => {
      reader.clear();
      text.show([]);
      if (model.symbols.end !== null) reader.open(model.symbols.end);
    });
    this.unknown = unknown;
  },

  readNext(index, { isLearning, windows }) {
    const from = this.columns[0].model.symbols;
    this.columns.forEach((column, number) => {
      const own = number ? translated(index, from, column.model.symbols) : index;
      const { reader, model } = column, before = reader.now;
      reader.append(own);
      if (!isLearning || own === null || !before.seen) return;
      windows[number].push({ seen: before.seen, logits: before.logits, output: before.output, target: own });
      if (windows[number].length < LEARNING.window) return;
      model.learn(windows[number]);
      windows[number] = [];
    });
  },

  // End a reading, wherever it is.
  stopReading() {
    if (!this.busy) return;
    this.busy = null;
    field("own-says").textContent = say("stopped");
    field("stop-reading").hidden = true;
    field("unlearn").disabled = this.columns.every(({ model }) => !model.trained);
    this.isFollowing = false;
    this.here = Math.min(this.length - 1, 1);
    this.finish();
  },

  // Restore the trained weights, and read the text again.
  unlearn() {
    this.stopReading();
    this.columns.forEach(({ model }) => model.forget());
    field("unlearn").disabled = true;
    const indices = this.columns[0].reader.read.map(({ index }) => index).filter((index) => index !== null);
    this.read(indices, this.unknown, false, (bits) => `${say("unlearned")} ${say("scored", { bits, count: whole(this.length) })}`);
  },
};

// A symbol's index in another vocabulary of the same unit; null if it is unknown there and left out.
function translated(index, from, to) {
  if (index === from.end) return to.end ?? to.encode("\n").indices[0] ?? null;
  if (index === from.unknown) return to.unknown;
  if (from.unit === "byte") return index;
  return to.indices.get(from.symbol(index)) ?? to.unknown;
}

page.begin();
