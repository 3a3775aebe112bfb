// Brings the live parts of the page to life: each draws itself, and again when it is touched.

const PARTS = { hello: helloPart, gates: gatesPart, toy: toyPart };

for (const root of document.querySelectorAll(".live")) {
  const { data, words } = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const show = PARTS[root.dataset.live](part, data, words);
  root.hidden = false;
  show();
  root.addEventListener("input", show);
  addEventListener("resize", show);
}
