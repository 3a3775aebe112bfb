// The scalar recurrence h(t) = tanh(x(t) + b h(t-1)): powers of b, and its gradient through tanh.

function toyPowers(b, lags) {
  return Array.from({ length: lags + 1 }, (_, k) => b ** k);
}

// The median over noise sequences of |d h(t) / d h(t-k)|, for k = 0 ... lags. noise: [lags, sequences].
function toyGradient(noise, sequences, b, lags) {
  const left = Array.from({ length: lags }, () => new Float64Array(sequences));
  const slopes = new Float64Array(lags);
  for (let s = 0; s < sequences; s++) {
    let h = 0, product = 1;
    for (let t = 0; t < lags; t++) {
      h = Math.tanh(noise[t * sequences + s] + b * h);
      slopes[t] = Math.abs(b) * (1 - h * h);
    }
    for (let k = 0; k < lags; k++) left[k][s] = product *= slopes[lags - 1 - k];
  }
  const middle = sequences / 2;
  return [1, ...left.map((values) => {
    values.sort();
    return (values[Math.ceil(middle) - 1] + values[Math.floor(middle)]) / 2;
  })];
}

function toyPart(part, { noise: packed, sequences }, words) {
  const raw = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const noise = Float64Array.from(new Int16Array(raw.buffer), (value) => value / 1e4);
  const [power, tanh] = [{ label: words.power, colour: "currentColor", dash: "2 3" }, { label: words.tanh, colour: LINES[0][0], dash: "" }];
  chartKey(part("key"), [power, tanh]);
  return function show() {
    const b = Number(part("b").value), lags = Number(part("lags").value);
    const powers = toyPowers(b, lags), gradient = toyGradient(noise, sequences, b, lags);
    part("b-value").textContent = b.toFixed(2);
    part("lags-value").textContent = String(lags);
    chart(part("chart"), {
      x: [0, lags], y: [-15, 15], xLabel: words.x, yLabel: words.y, format: powerOfTen,
      lines: [{ ...power, values: powers.map(Math.log10) }, { ...tanh, values: gradient.map(Math.log10) }],
    });
    const values = { b: b.toFixed(2), k: lags, power: scientific(powers[lags]), tanh: scientific(gradient[lags]) };
    part("says").textContent = fill(words.says, values);
  };
}
