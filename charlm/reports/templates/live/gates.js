// A small LSTM or GRU reading a text, its gates as trained or set by hand.

// The layer with some gates fixed, {f: 1, ...}: their weights are 0, and their bias alone gives the value.
function forcedLayer(net, by) {
  const layer = { ...net }, H = net.size, width = net.ih.length / net.bih.length;
  for (const name of ["ih", "hh", "bih", "bhh"]) layer[name] = Float64Array.from(net[name]);
  for (const [gate, value] of Object.entries(by)) {
    const block = CELLS[net.kind].gates.indexOf(gate);
    layer.ih.fill(0, block * H * width, (block + 1) * H * width);
    layer.hh.fill(0, block * H * H, (block + 1) * H * H);
    layer.bih.fill(Math.log(value / (1 - value)), block * H, (block + 1) * H);
    layer.bhh.fill(0, block * H, (block + 1) * H);
  }
  return layer;
}

// Read symbols, with the gates of `by` fixed at the steps where isByHand(t).
function readGates(net, symbols, by, isByHand) {
  const forcedOne = forcedLayer(net, by), steps = [];
  let state = initialState(net);
  symbols.forEach((symbol, t) => {
    const layer = isByHand(t) ? forcedOne : net, seen = forward(layer, symbol, state);
    steps.push({ layer, seen, chances: readOut(net, seen.after.h).chances });
    state = seen.after;
  });
  return steps;
}

// The gradients of y, the right logit less the wrong one after the last step, with respect to the
// states before each step. In an LSTM that of c comes back through the cell state, h being held.
function gatesBackward(net, steps, wanted) {
  const last = steps.length - 1, d = initialState(net), back = [];
  const dlogits = Float64Array.from(net.bias, (_, k) => (k === wanted ? 1 : k === 1 - wanted ? -1 : 0));
  addTransposed(d.h, net.head, dlogits);
  for (let t = last, after = d; t >= 0; t--) {
    const { layer, seen } = steps[t], unused = {};
    for (const name of ["ih", "hh", "bih", "bhh"]) unused[name] = new Float64Array(net[name].length);
    back[t] = after = backward(layer, seen, after, unused).before;
  }
  return back;
}

// The letter read last, at every place: the right answer. A dot is the last of the letters.
function latestLetters(symbols, dot) {
  let latest = dot;
  return symbols.map((symbol) => (latest = symbol === dot ? latest : symbol));
}

function roundUp(value) {
  return [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 1.5, 2, 3, 4, 6, 10].find((bound) => bound >= value) || Math.ceil(value / 10) * 10;
}

// The text, the right answers and the network's answers, a column per symbol.
function drawGatesText(table, words, letters, symbols, steps, wanted, at) {
  const row = (label, cell) => element("tr", {}, element("th", { scope: "row" }, label), ...symbols.map(cell));
  const plain = (names) => (_, t) => element("td", t === at ? { class: "here" } : {}, letters[names[t]]);
  const said = (_, t) => {
    const best = bestOf(steps[t].chances), chance = steps[t].chances[wanted[t]];
    const cell = element("td", { class: best === wanted[t] ? "" : "fails", title: String(chance) }, letters[best]);
    if (t === at) cell.classList.add("here");
    cell.style.background = `rgb(0 114 178 / ${(STRONGEST * chance).toFixed(2)})`;
    return cell;
  };
  table.replaceChildren(element("tbody", {}, row(words.reads, plain(symbols)), row(words.right, plain(wanted)), row(words.says, said)));
}

function drawGatesSums(table, words, step, before, unit, by, memory) {
  const lines = numbers(step.layer, step.seen, unit).map(([left, middle, right]) =>
    [left, left in by ? words.by_hand : middle, right]);
  for (const part of memory === "c" ? ["c", "h"] : ["h"]) {
    lines.push([`dy/d${part}\u208b\u2081`, "", scientific(before[part][unit])]);
  }
  table.replaceChildren(element("tbody", {}, ...lines.map((line) => element("tr", {},
    element("th", { scope: "row" }, element("code", {}, line[0])),
    element("td", {}, line[1]), element("td", { class: "num" }, line[2])))));
}

function drawGatesCharts(part, words, now, learned, names, at, memory) {
  const units = now.steps[0].seen.after.h.map((_, u) => u), count = now.steps.length;
  const curve = (of, u) => [0, ...of.steps.map(({ seen }) => seen.after[memory][u])];
  const slope = (of, u) => of.back.map((before) => before[memory][u]);
  for (const [chartName, values, from, yLabel] of [
    ["memory", curve, 0, fill(words.memory, { memory })], ["gradient", slope, 0, fill(words.gradient, { memory })],
  ]) {
    const lines = [];
    for (const of of [learned, now]) {
      for (const u of units) {
        const [colour, dash] = LINES[u];
        lines.push({ values: values(of, u), from, colour, dash, faint: of === learned });
      }
    }
    const bound = roundUp(1.02 * largestOf(...lines.map((line) => line.values)));
    chart(part(chartName), { x: [0, count], y: [-bound, bound], lines, names, at: at + 1, yLabel });
  }
}

// The symbols of a typed text; other letters are left out, as are dots before any letter.
function symbolsOf(text, letters, dot) {
  const read = [...text.toLowerCase()].map((letter) => letters.indexOf(letter));
  const known = read.filter((symbol) => symbol >= 0), first = known.findIndex((symbol) => symbol !== dot);
  return first < 0 ? [0] : known.slice(first);
}

function gatesPart(part, { letters, nets }, words) {
  const dot = letters.indexOf("."), gates = nets[0].gates, options = [...part("units").options];
  const net = () => nets[part("form") ? part("form").selectedIndex : 0];
  const memory = CELLS[nets[0].kind].parts.at(-1);
  const sets = (values) => Object.entries(values).map(([gate, value]) => `${gate} = ${value}`).join(", ");
  chartKey(part("key"), [
    ...options.map(({ text }, u) => ({ label: text, colour: LINES[u][0], dash: LINES[u][1] })),
    { label: words.faint, faint: true },
  ]);
  function byHand() {
    const chosen = gates.filter((gate) => part(`by-${gate}`).checked);
    return Object.fromEntries(chosen.map((gate) => [gate, Number(part(`value-${gate}`).value)]));
  }
  function setByHand(values) {
    for (const gate of gates) {
      part(`by-${gate}`).checked = gate in values;
      if (gate in values) part(`value-${gate}`).value = values[gate];
    }
    show();
  }
  function show() {
    const symbols = symbolsOf(part("text").value, letters, dot), wanted = latestLetters(symbols, dot);
    const by = byHand();
    part("at").max = symbols.length;
    const at = Number(part("at").value) - 1, where = part("where").value, unit = part("units").selectedIndex;
    const isByHand = (t) => where === "every" || (where === "on" ? t >= at : t === at);
    const read = (values) => {
      const steps = readGates(net(), symbols, values, isByHand);
      return { steps, back: gatesBackward(net(), steps, wanted.at(-1)) };
    };
    const now = read(by), learned = read({}), { seen, chances } = now.steps[at];
    drawGatesText(part("strip"), words, letters, symbols, now.steps, wanted, at);
    drawGatesCharts(part, words, now, learned, symbols.map((symbol) => letters[symbol]), at, memory);
    drawGatesSums(part("sums"), words, now.steps[at], now.back[at], unit, by, memory);
    for (const gate of gates) {
      if (!(gate in by)) part(`value-${gate}`).value = seen.gates[gate][unit];
      part(`shown-${gate}`).textContent = shown(seen.gates[gate][unit], 2);
    }
    part("keep").textContent = `${words.keep}: ${sets(net().keep)}`;
    part("erase").textContent = `${words.erase}: ${sets(net().erase)}`;
    part("at-value").textContent = `${at + 1} / ${symbols.length}`;
    const right = now.steps.filter((step, t) => bestOf(step.chances) === wanted[t]).length;
    const odds = letters.map((letter, k) => `p(${letter}) = ${shown(chances[k], 2)}`).join(", ");
    part("status").textContent = fill(words.status, { right, count: symbols.length, at: at + 1, odds });
  }
  for (const gate of gates) {
    part(`value-${gate}`).addEventListener("input", () => (part(`by-${gate}`).checked = true));
  }
  part("learned").addEventListener("click", () => setByHand({}));
  part("keep").addEventListener("click", () => setByHand(net().keep));
  part("erase").addEventListener("click", () => setByHand(net().erase));
  return show;
}
