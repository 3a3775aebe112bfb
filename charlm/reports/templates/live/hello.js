// The network of "hello": its numbers step by step, forward and backward, and its training.

const WEIGHTS = { ih: "W_ih", bih: "b_ih", hh: "W_hh", bhh: "b_hh", head: "W_hy", bias: "b_y" };

// The logits and probabilities after a state.
function readOut(net, h) {
  const logits = Float64Array.from(net.bias);
  addProduct(logits, net.head, h);
  const largest = Math.max(...logits), powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((one, other) => one + other);
  return { logits, chances: powers.map((power) => power / sum) };
}

// All numbers of the way forward: a list of {seen, logits, chances, wanted, loss}.
function helloForward(net, symbols) {
  const steps = [];
  let state = initialState(net);
  for (let t = 0; t + 1 < symbols.length; t++) {
    const x = new Float64Array(net.bias.length), wanted = symbols[t + 1];
    x[symbols[t]] = 1;
    const seen = forward(net, x, state), { logits, chances } = readOut(net, seen.after.h);
    steps.push({ seen, logits, chances, wanted, loss: -Math.log(chances[wanted]) });
    state = seen.after;
  }
  return steps;
}

// All numbers of the way back from the mean loss, by step, with each step's share of the gradients.
function helloBackward(net, steps) {
  const back = [];
  let later = initialState(net);
  for (let t = steps.length - 1; t >= 0; t--) {
    const { seen, chances, wanted } = steps[t];
    const dlogits = chances.map((chance, k) => (chance - (k === wanted ? 1 : 0)) / steps.length);
    const fromHead = new Float64Array(net.size), share = {};
    for (const name in WEIGHTS) share[name] = new Float64Array(net[name].length);
    addTransposed(fromHead, net.head, dlogits);
    addOuter(share.head, dlogits, seen.after.h);
    add(share.bias, dlogits);
    const dh = fromHead.map((part, u) => part + later.h[u]);
    const { before } = backward(net, seen, { h: dh }, share);
    back[t] = { dlogits, fromHead, fromLater: later.h, dh, da: share.bih, before: before.h, share };
    later = before;
  }
  return back;
}

function meanLoss(steps) {
  return steps.reduce((sum, step) => sum + step.loss, 0) / steps.length;
}

// The gradients of the weights, summed over the steps from `first` on.
function helloGradients(back, first = 0) {
  const sums = {};
  for (const name in WEIGHTS) {
    sums[name] = new Float64Array(back[0].share[name].length);
    for (const { share } of back.slice(first)) add(sums[name], share[name]);
  }
  return sums;
}

// One step of plain gradient descent.
function helloTrain(net, symbols, rate) {
  const gradients = helloGradients(helloBackward(net, helloForward(net, symbols)));
  for (const name in WEIGHTS) {
    for (let k = 0; k < net[name].length; k++) net[name][k] -= rate * gradients[name][k];
  }
}

function largestOf(...lists) {
  return Math.max(1e-12, ...lists.flatMap((list) => [...list].map(Math.abs)));
}

function bestOf(chances) {
  return chances.indexOf(Math.max(...chances));
}

// The network unrolled, a column per step.
function drawHelloNet(table, words, letters, steps, symbols, here) {
  const columns = steps.map((_, t) => t), mark = (t) => (t === here ? { class: "here" } : {});
  const head = element("tr", {}, element("th", { scope: "col" }, "x \u2192 y"));
  for (const t of columns) {
    head.append(element("th", { scope: "col", ...mark(t) }, `${letters[symbols[t]]} \u2192 ${letters[symbols[t + 1]]}`));
  }
  const lines = [];
  for (let u = 0; u < steps[0].seen.after.h.length; u++) {
    lines.push(labelled(`h${"\u2081\u2082\u2083"[u]}`, columns.map((t) => numberCell(steps[t].seen.after.h[u])), 0));
  }
  letters.forEach((letter, k) => {
    const cells = columns.map((t) => numberCell(steps[t].chances[k], { isRight: k === steps[t].wanted }));
    lines.push(labelled(`p(${letter})`, cells, 0));
  });
  const said = columns.map((t) => {
    const best = bestOf(steps[t].chances), isRight = best === steps[t].wanted;
    return element("td", { class: isRight ? "holds" : "fails" }, `${letters[best]} ${isRight ? "\u2713" : "\u2717"}`);
  });
  const answers = element("tr", { class: "said" }, element("th", { scope: "row" }, words.predicts), ...said);
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...lines, answers));
}

// The equations of a step with their numbers.
function drawHelloSums(table, letters, steps, back, t, isBack) {
  const { seen, logits, chances, wanted, loss } = steps[t], of = (name, k) => (k < 0 ? "0" : `${name}(${k})`);
  const now = t + 1, digits = isBack ? 4 : 3;
  const plain = (values) => [...values].map((value) => numberCell(value, { largest: largestOf(values), digits }));
  const lettered = (values, largest) => [...values].map((value, k) =>
    numberCell(value, { name: letters[k], largest, isRight: k === wanted }));
  const one = [...seen.x].map((value, k) => numberCell(value, { name: letters[k] }));
  const rows = isBack ? [
    [`dlogits = (p \u2212 y) / ${steps.length}`, lettered(back[t].dlogits, largestOf(back[t].dlogits))],
    [`W_hy\u1d40 dlogits`, plain(back[t].fromHead)],
    [`W_hh\u1d40 da(${now + 1})`, plain(back[t].fromLater)],
    [`dh(${now}) = \u03a3`, plain(back[t].dh)],
    [`da(${now}) = dh (1 \u2212 h\u00b2)`, plain(back[t].da)],
    [`W_hh\u1d40 da(${now})`, plain(back[t].before)],
  ] : [
    [`x(${now})`, one],
    ["W_ih x + b_ih", plain(seen.input)],
    [of("h", t), plain(seen.before.h)],
    [`W_hh h(${t}) + b_hh`, plain(seen.state)],
    [`h(${now}) = tanh(\u03a3)`, plain(seen.after.h)],
    ["logits = W_hy h + b_y", lettered(logits, largestOf(logits))],
    ["p = softmax", lettered(chances, 1)],
    [`loss = \u2212ln p(${letters[wanted]})`, [numberCell(loss, { largest: 3 })]],
  ];
  table.replaceChildren(element("tbody", {}, ...rows.map(([label, cells]) => labelled(label, cells, letters.length))));
}

function drawHelloMatrices(target, net, values, sign, digits) {
  const tables = Object.entries(WEIGHTS).map(([name, label]) => {
    const rows = name === "head" || name === "bias" ? net.bias.length : net.size;
    const width = values[name].length / rows, largest = largestOf(values[name]);
    const table = element("table", { "data-weights": name }, element("caption", {}, element("code", {}, sign + label)));
    for (let row = 0; row < rows; row++) {
      const cells = [...values[name].slice(row * width, (row + 1) * width)];
      table.append(element("tr", {}, ...cells.map((value) => numberCell(value, { largest, digits }))));
    }
    return table;
  });
  target.replaceChildren(...tables);
}

// Draw the network and the chosen step of the eight; return the steps forward.
function drawHello(part, { letters, symbols }, words, net) {
  const last = symbols.length - 1, at = Number(part("step").value), isBack = at >= last;
  const t = isBack ? 2 * last - 1 - at : at;
  const steps = helloForward(net, symbols), back = helloBackward(net, steps);
  const where = { at: at + 1, count: 2 * last, x: letters[symbols[t]], y: letters[symbols[t + 1]] };
  drawHelloNet(part("net"), words, letters, steps, symbols, t);
  part("where").textContent = fill(isBack ? words.backward : words.forward, where);
  drawHelloSums(part("sums"), letters, steps, back, t, isBack);
  part("of").textContent = isBack ? fill(words.gradients, { first: last, last: t + 1 }) : words.weights;
  if (isBack) drawHelloMatrices(part("matrices"), net, helloGradients(back, t), "d", 4);
  else drawHelloMatrices(part("matrices"), net, net, "", 3);
  return steps;
}

function helloPart(part, data, words) {
  const { letters, symbols, net: untrained, rate } = data;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
  const course = [], LONG = 400;
  let net = structuredClone(untrained), taken = 0, left = 0;
  const ahead = structuredClone(untrained);
  const losses = (count) => {
    while (course.length <= count) {
      course.push(meanLoss(helloForward(ahead, symbols)));
      helloTrain(ahead, symbols, rate);
    }
    return course;
  };
  function draw() {
    const steps = drawHello(part, data, words, net);
    const length = Math.max(LONG, taken), all = losses(length);
    const done = { values: all.slice(0, taken + 1), colour: LINES[0][0] };
    chart(part("chart"), {
      x: [0, length], y: [0, 1.5], at: taken, xLabel: words.x, yLabel: words.y,
      lines: [{ values: all.slice(0, length + 1), faint: true }, done],
    });
    const said = steps.map(({ chances }) => letters[bestOf(chances)]).join(" ");
    return fill(words.status, { steps: taken, loss: shown(meanLoss(steps)), said });
  }
  function show() {
    part("status").textContent = draw();
  }
  function run() {
    const many = isCalm.matches ? left : Math.min(left, 2);
    for (let k = 0; k < many; k++) helloTrain(net, symbols, rate);
    taken += many;
    left -= many;
    if (left > 0) {
      draw();
      requestAnimationFrame(run);
    } else {
      show();
    }
  }
  const train = (count) => () => {
    const isRunning = left > 0;
    left += count;
    if (!isRunning) run();
  };
  const move = (by) => () => {
    part("step").value = Number(part("step").value) + by;
    show();
  };
  part("one").addEventListener("click", train(1));
  part("many").addEventListener("click", train(50));
  part("reset").addEventListener("click", () => {
    net = structuredClone(untrained);
    taken = left = 0;
    show();
  });
  part("back").addEventListener("click", move(-1));
  part("on").addEventListener("click", move(1));
  return show;
}
