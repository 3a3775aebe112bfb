"use strict";
// Colours the characters before a chosen one by their influence on its prediction. Needs text.js.
const data = JSON.parse(document.getElementById("data").textContent);
const raw = Uint8Array.from(atob(data.drove), (letter) => letter.charCodeAt(0));
const drove = new Int8Array(raw.buffer), count = data.characters.length;
const says = document.getElementById("says");
let here = -1;

const influence = (other) => (here >= 0 && other < here ? drove[here * count + other] / 127 : 0);
const text = new ColouredText(document.getElementById("text"), show, (span, place) => {
  span.style.background = tint(influence(place), 0.55);
});
text.add(data.characters);

function show(place) {
  here = Math.max(0, Math.min(count - 1, place));
  text.mark(here);
  text.repaint();
  let strongest = 0;
  for (let k = 1; k < here; k++) if (Math.abs(influence(k)) > Math.abs(influence(strongest))) strongest = k;
  const away = here - strongest, name = (at) => named(data.characters[at]);
  says.textContent = here === 0 ? "The first character has no context." :
    `${name(here)} was driven most by ${name(strongest)}, ${away} ${away === 1 ? "character" : "characters"} before it.`;
}
show(120);
