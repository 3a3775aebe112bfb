// Pieces of the live parts: numbers, rows of numbers, line charts.

const LINES = [["#0072b2", ""], ["#d55e00", "7 3"], ["#009e73", "2 3"], ["#b8649a", "9 3 2 3"]];
const STRONGEST = 0.5; // of a number's background

function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function shown(value, digits = 3) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `\u2212${text}` : text;
}

function powerOfTen(exponent) {
  const digits = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";
  const raised = [...String(Math.abs(exponent))].map((digit) => digits[digit]).join("");
  return `10${exponent < 0 ? "\u207b" : ""}${raised}`;
}

// A number in three digits, as 0.123 or 1.23 · 10⁻⁴.
function scientific(value) {
  const size = Math.abs(value), minus = value < 0 ? "\u2212" : "";
  if (size === 0 || (size >= 0.001 && size < 1000)) return minus + Number(size.toPrecision(3));
  const [digits, exponent] = size.toExponential(2).split("e");
  return `${minus}${digits} \u00b7 ${powerOfTen(Number(exponent))}`;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// A cell with a number: its background shows sign and size, its title all digits.
function numberCell(value, { name = "", largest = 1, digits = 3, isRight = false } = {}) {
  const cell = element("td", { class: isRight ? "num right" : "num", title: String(value) });
  if (name) cell.append(element("small", {}, name), " ");
  cell.append(Number.isInteger(value) && Math.abs(value) < 2 && largest === 1 ? String(value) : shown(value, digits));
  const size = Math.min(1, Math.abs(value) / largest);
  const colour = value > 0 ? "213 94 0" : "0 114 178";
  if (size > 0.02) cell.style.background = `rgb(${colour} / ${(STRONGEST * size).toFixed(2)})`;
  return cell;
}

function labelled(label, cells, columns) {
  const row = element("tr", {}, element("th", { scope: "row" }, element("code", {}, label)), ...cells);
  const empty = columns - cells.length;
  if (empty > 0) row.append(element("td", { colspan: empty }));
  return row;
}

// Round steps along an axis, at most `most` of them.
function ticks([low, high], most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough * 0.999);
  const places = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) places.push(k * step);
  return places;
}

// Draw lines [{values, from, colour, dash, faint}] over x and y, [lowest, highest] each.
// names: texts at x = 1, 2, ... in place of numbers; at: a place marked on the x axis.
function chart(svg, { x, y, lines, xLabel, yLabel, names, at, format = scientific }) {
  const width = svg.clientWidth || 340, height = svg.clientHeight || 220;
  const left = 50, top = 24, right = width - 16, bottom = height - (xLabel ? 38 : 22);
  const across = (value) => left + ((value - x[0]) / (x[1] - x[0])) * (right - left);
  const up = (value) => bottom - ((value - y[0]) / (y[1] - y[0])) * (bottom - top);
  const pieces = [drawn("text", { x: 2, y: 13 }, yLabel)];
  for (const place of ticks(y, 6)) {
    const zero = Math.abs(place) < 1e-12 ? "axis" : "grid";
    pieces.push(drawn("line", { class: zero, x1: left, x2: right, y1: up(place), y2: up(place) }));
    pieces.push(drawn("text", { x: left - 6, y: up(place) + 4, "text-anchor": "end" }, format(place)));
  }
  const places = names ? names.map((_, k) => k + 1) : ticks(x, width < 400 ? 5 : 10);
  for (const place of places) {
    const text = names ? names[place - 1] : String(place);
    pieces.push(drawn("text", { x: across(place), y: bottom + 16, "text-anchor": "middle" }, text));
  }
  if (xLabel) pieces.push(drawn("text", { x: right, y: height - 5, "text-anchor": "end" }, xLabel));
  const box = { x: left, y: top, width: right - left, height: bottom - top };
  const inside = drawn("svg", { ...box, viewBox: `${left} ${top} ${right - left} ${bottom - top}` });
  if (at !== undefined) {
    inside.append(drawn("line", { class: "mark", x1: across(at), x2: across(at), y1: top, y2: bottom }));
  }
  for (const { values, from = 0, colour = "currentColor", dash = "", faint } of lines) {
    const points = [];
    values.forEach((value, k) => {
      if (Number.isFinite(value)) points.push(`${across(from + k).toFixed(1)},${up(value).toFixed(1)}`);
    });
    const style = { stroke: colour, "stroke-dasharray": dash, class: faint ? "line faint" : "line" };
    inside.append(drawn("polyline", { ...style, points: points.join(" ") }));
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...pieces, inside);
}

// The names of a chart's lines, each beside a piece of its line.
function chartKey(target, entries) {
  target.replaceChildren(...entries.map(({ label, colour = "currentColor", dash = "", faint }) => {
    const line = drawn("svg", { viewBox: "0 0 28 8", width: 28, height: 8, "aria-hidden": "true" });
    const style = { stroke: colour, "stroke-dasharray": dash, class: faint ? "line faint" : "line" };
    line.append(drawn("line", { ...style, x1: 0, x2: 28, y1: 4, y2: 4 }));
    return element("span", {}, line, ` ${label}`);
  }));
}
