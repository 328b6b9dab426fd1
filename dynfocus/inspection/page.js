"use strict";
const tip = document.getElementById("tip"), SVG = "http://www.w3.org/2000/svg";
function number(value) { return value === null ? "not a number" : String(value); }
function words(data, i) {
  const lines = [`frame ${i}, at ${data.seconds[i]} s`];
  if (data.peaks.length) lines.push(`rho*delta = ${number(data.peaks[i])}`);
  if (data.nearest.length) {
    const event = data.nearest[i], at = data.representatives[event];
    lines.push(`event ${event}, its representative at ${data.seconds[at]} s`);
    if (data.scores.length) lines.push(`s of its event = ${number(data.scores[event])}`);
  }
  if (data.own.length) lines.push(`score = ${number(data.own[i])}`);
  lines.push(data.kept.includes(i) ? data.words[1] : data.words[0]);
  if (data.relevant.includes(i)) lines.push("the question needs this frame");
  return lines.join("\n");
}
function show(data, i, x, y) {
  tip.textContent = words(data, i);
  const frame = document.getElementById("f" + i);
  if (frame) {
    const image = document.createElementNS(SVG, "svg"), use = document.createElementNS(SVG, "use");
    image.setAttribute("viewBox", frame.getAttribute("viewBox"));
    use.setAttribute("href", "#f" + i);
    image.append(use);
    tip.prepend(image);
  }
  tip.hidden = false;
  tip.style.left = Math.max(4, Math.min(x + 16, innerWidth - tip.offsetWidth - 8)) + "px";
  const below = y + 16 + tip.offsetHeight < innerHeight;
  tip.style.top = Math.max(4, below ? y + 16 : y - 12 - tip.offsetHeight) + "px";
}
for (const section of document.querySelectorAll("section[data-first]")) {
  const data = JSON.parse(section.querySelector("script").textContent), chart = section.querySelector(".chart");
  const cursor = document.createElementNS(SVG, "rect"), last = data.seconds.length - 1, edges = data.edges;
  const wide = chart.viewBox.baseVal.width, high = chart.viewBox.baseVal.height;
  let now = 0;
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("height", high);
  chart.append(cursor);
  const hide = () => { tip.hidden = true; cursor.setAttribute("width", 0); };
  const point = (i, y) => {
    const box = chart.getBoundingClientRect(), middle = (edges[i] + edges[i + 1]) / 2;
    now = i;
    cursor.setAttribute("x", edges[i]);
    cursor.setAttribute("width", Math.max(1, edges[i + 1] - edges[i]));
    return [box.left + middle / wide * box.width, y === undefined ? box.top + box.height / 2 : y];
  };
  const follow = (place, find) => {  // a finger that is lifted leaves too, but the numbers stay until the next touch
    for (const kind of ["pointermove", "pointerdown"]) place.addEventListener(kind, find);
    place.addEventListener("pointerleave", event => { if (event.pointerType !== "touch") hide(); });
  };
  document.addEventListener("pointerdown", hide, true);
  follow(chart, event => {
    const box = chart.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * wide;
    if (x < edges[0] || x > edges[last + 1]) return hide();
    let low = 0, top = last;
    while (low < top) {
      const middle = (low + top + 1) >> 1;
      if (edges[middle] <= x) low = middle; else top = middle - 1;
    }
    point(low);
    show(data, low, event.clientX, event.clientY);
  });
  chart.addEventListener("focus", () => { if (chart.matches(":focus-visible")) show(data, now, ...point(now)); });
  chart.addEventListener("keydown", event => {
    const next = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape" || event.key === "Tab") hide();
    if (next === undefined) return;
    event.preventDefault();
    const i = Math.max(0, Math.min(last, next));
    show(data, i, ...point(i));
  });
  for (const figure of section.querySelectorAll("figure[data-frame]")) {
    const i = Number(figure.dataset.frame);
    follow(figure, event => { point(i); show(data, i, event.clientX, event.clientY); });
  }
}
