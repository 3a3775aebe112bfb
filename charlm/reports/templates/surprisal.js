"use strict";
// Draws a page of the text and shows the model's predictions at the character under the pointer.
// Needs text.js.
const data = JSON.parse(document.getElementById("data").textContent);
const PER_PAGE = 4000;
function unpacked(text, Type) {
  const raw = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Type(raw.buffer);
}
const Index = data.width === 2 ? Uint16Array : Uint32Array;
const symbols = unpacked(data.symbols, Index), others = unpacked(data.others, Index);
const bits = unpacked(data.bits, Uint8Array), chances = unpacked(data.chances, Uint16Array);
const card = document.querySelector("#card > div");
const back = document.getElementById("back"), on = document.getElementById("on");
const pages = Math.max(1, Math.ceil(symbols.length / PER_PAGE));
let page = 0;

const shown = (index) => named(data.names[index]);
const text = new ColouredText(document.getElementById("text"), move, (span, place) => {
  span.style.background = `rgb(213 94 0 / ${heatOf(bits[place] / data.stepsOfBit)})`;
});

function draw(number, at) {
  page = number;
  const start = page * PER_PAGE, stop = Math.min(start + PER_PAGE, symbols.length);
  text.show(Array.from(symbols.subarray(start, stop), (index) => data.names[index]), start);
  document.getElementById("where").textContent = `page ${page + 1} of ${pages}`;
  back.disabled = page === 0;
  on.disabled = page === pages - 1;
  show(at === undefined ? Math.min(start + 1, stop - 1) : at);
}
function show(place) {
  text.mark(place);
  const head = document.createElement("p"), rows = [];
  const cost = bits[place] / data.stepsOfBit, most = bits[place] === 255 ? "at least " : "";
  head.textContent = `${shown(symbols[place])} took ${most}${cost.toFixed(1)} bits. Expected were:`;
  for (let k = place * data.alternatives; k < (place + 1) * data.alternatives; k++) {
    const chance = chances[k] / data.stepsOfChance;
    rows.push({ name: shown(others[k]), chance, isIt: others[k] === symbols[place] });
  }
  card.replaceChildren(head, likelyTable(rows));
}
function move(place, how) {
  const wanted = Math.max(0, Math.min(symbols.length - 1, place));
  const own = Math.floor(wanted / PER_PAGE);
  if (own !== page) draw(own, wanted); else show(wanted);
  if (how === "key") text.element.children[wanted - page * PER_PAGE].scrollIntoView({ block: "nearest" });
}
back.addEventListener("click", () => draw(page - 1));
on.addEventListener("click", () => draw(page + 1));
if (symbols.length) draw(0);
