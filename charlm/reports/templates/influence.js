"use strict";
// Colours the characters before a chosen one by their influence on its prediction.
const data = JSON.parse(document.getElementById("data").textContent);
const raw = Uint8Array.from(atob(data.drove), (letter) => letter.charCodeAt(0));
const drove = new Int8Array(raw.buffer), count = data.characters.length;
const text = document.getElementById("text"), says = document.getElementById("says");
let here = -1;

data.characters.forEach((shown, place) => {
  const span = document.createElement("span");
  span.textContent = shown;
  span.dataset.place = place;
  text.append(span);
});
function show(place) {
  if (place < 0 || place >= count) return;
  if (here >= 0) text.children[here].classList.remove("here");
  here = place;
  text.children[here].classList.add("here");
  let strongest = 0;
  for (let other = 0; other < count; other++) {
    const value = other < place ? drove[place * count + other] / 127 : 0;
    const colour = value > 0 ? "213 94 0" : "0 114 178", size = Math.abs(value);
    text.children[other].style.background = size < 0.03 ? "" : `rgb(${colour} / ${(0.55 * size).toFixed(2)})`;
    if (size > Math.abs(drove[place * count + strongest] / 127)) strongest = other;
  }
  const name = (at) => data.characters[at].replace("\n", "").replace(" ", "\u2423");
  says.textContent = place === 0 ? "The first character has no context." :
    `${name(place)} was driven most by ${name(strongest)}, ${place - strongest} ${place - strongest === 1 ? "character" : "characters"} before it.`;
}
const keys = {
  ArrowLeft: () => here - 1, ArrowRight: () => here + 1, Home: () => 0, End: () => count - 1,
  ArrowUp: () => here - 20, ArrowDown: () => here + 20,
};
text.addEventListener("keydown", (event) => {
  if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  show(Math.max(0, Math.min(count - 1, keys[event.key]())));
});
for (const kind of ["pointerover", "click"]) {
  text.addEventListener(kind, (event) => {
    if (event.target.dataset.place) show(Number(event.target.dataset.place));
  });
}
show(Math.min(count - 1, 120));
