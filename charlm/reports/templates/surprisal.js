"use strict";
// Draws a page of the text and shows the model's predictions at the character under the pointer.
const data = JSON.parse(document.getElementById("data").textContent);
const PER_PAGE = 4000;
function unpacked(text, Type) {
  const raw = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Type(raw.buffer);
}
const Index = data.width === 2 ? Uint16Array : Uint32Array;
const symbols = unpacked(data.symbols, Index), others = unpacked(data.others, Index);
const bits = unpacked(data.bits, Uint8Array), chances = unpacked(data.chances, Uint16Array);
const text = document.getElementById("text"), card = document.querySelector("#card > div");
const back = document.getElementById("back"), on = document.getElementById("on");
const pages = Math.max(1, Math.ceil(symbols.length / PER_PAGE));
let page = 0, here = -1;

function shown(index) {
  if (data.breaks[index]) return "\u21b5";
  return data.names[index] === " " ? "\u2423" : data.names[index];
}
function draw(number, at) {
  page = number;
  const piece = document.createDocumentFragment(), start = page * PER_PAGE;
  const stop = Math.min(start + PER_PAGE, symbols.length);
  for (let place = start; place < stop; place++) {
    const span = document.createElement("span"), index = symbols[place];
    const heat = Math.min(0.6, (bits[place] / data.stepsOfBit / 16) * 1.2);
    span.style.setProperty("--heat", heat.toFixed(2));
    span.dataset.place = place;
    span.textContent = data.breaks[index] ? "\u21b5\n" : data.names[index];
    if (data.breaks[index]) span.className = "break";
    piece.append(span);
  }
  text.replaceChildren(piece);
  here = -1;
  document.getElementById("where").textContent = `page ${page + 1} of ${pages}`;
  back.disabled = page === 0;
  on.disabled = page === pages - 1;
  show(at === undefined ? Math.min(start + 1, stop - 1) : at);
}
function cell(row, content) {
  const made = row.insertCell();
  made.append(content);
  return made;
}
function show(place) {
  const start = page * PER_PAGE, before = text.children[here - start];
  if (before) before.classList.remove("here");
  const span = text.children[place - start];
  if (!span) return;
  here = place;
  span.classList.add("here");
  const head = document.createElement("p"), table = document.createElement("table");
  const cost = bits[place] / data.stepsOfBit, most = bits[place] === 255 ? "at least " : "";
  head.textContent = `${shown(symbols[place])} took ${most}${cost.toFixed(1)} bits. Expected were:`;
  for (let rank = 0; rank < data.alternatives; rank++) {
    const index = others[place * data.alternatives + rank], row = table.insertRow();
    const chance = chances[place * data.alternatives + rank] / data.stepsOfChance;
    const bar = document.createElement("i");
    bar.className = "bar";
    bar.style.width = `${(12 * chance).toFixed(2)}rem`;
    if (index === symbols[place]) row.className = "is";
    cell(row, shown(index));
    cell(row, `${(100 * chance).toFixed(chance < 0.1 ? 1 : 0)} %`);
    cell(row, bar);
  }
  card.replaceChildren(head, table);
}
function move(place) {
  const wanted = Math.max(0, Math.min(symbols.length - 1, place));
  const own = Math.floor(wanted / PER_PAGE);
  if (own !== page) draw(own, wanted); else show(wanted);
  const span = text.children[here - page * PER_PAGE];
  if (span) span.scrollIntoView({ block: "nearest" });
}
function line(direction) {
  let place = here + direction;
  const isBreak = (at) => at < 0 || at >= symbols.length || data.breaks[symbols[at]];
  while (place > 0 && place < symbols.length - 1 && !isBreak(place)) place += direction;
  return place + (direction > 0 ? 1 : 0);
}
const keys = {
  ArrowLeft: () => move(here - 1), ArrowRight: () => move(here + 1),
  ArrowUp: () => move(line(-1)), ArrowDown: () => move(line(1)),
  Home: () => move(page * PER_PAGE), End: () => move(Math.min(symbols.length, (page + 1) * PER_PAGE) - 1),
};
text.addEventListener("keydown", (event) => {
  if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
});
for (const kind of ["pointerover", "click"]) {
  text.addEventListener(kind, (event) => {
    if (event.target.dataset.place) show(Number(event.target.dataset.place));
  });
}
back.addEventListener("click", () => draw(page - 1));
on.addEventListener("click", () => draw(page + 1));
draw(0);
