"""How a page looks, and the little that moves on it."""

from dynfocus.inspection.report.canvas import COLORS

DARK = {
    "paper": (24, 26, 30),
    "ink": (232, 234, 238),
    "faint": (160, 166, 176),
    "rule": (62, 66, 74),
    "cone": (240, 138, 44),
    "rod": (96, 118, 152),
    "none": (48, 51, 58),
    "peak": (150, 150, 240),
    "relevant": (70, 180, 110),
    "shade": (32, 56, 42),
}

RULES = """
* { box-sizing: border-box; }
html { color-scheme: light dark; background: var(--paper); color: var(--ink); }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .5rem; }
p + h2 { margin-top: 1rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
section { border-top: 1px solid var(--rule); margin-top: 1.5rem; padding-top: 1.25rem; }
p { margin: .25rem 0; max-width: 60rem; }
.said { white-space: pre-wrap; }
.answer { font-size: 1.1rem; }
.faint, figcaption, caption { color: var(--faint); font-size: .875rem; }
.strip { display: flex; flex-wrap: wrap; gap: 1rem; margin: .5rem 0; max-height: 34rem; overflow: auto; padding: 6px; }
figure { margin: 0; text-align: center; }
figure svg { display: block; width: 100%; height: auto; }
figure.best svg { outline: 4px solid var(--cone); }
figcaption { line-height: 1.25; margin-top: 6px; }
.rank { display: inline-block; min-width: 1.4em; margin-right: .3em; border-radius: 3px; font-weight: 600;
  background: var(--cone); color: #14161a; }
.scroll { overflow-x: auto; }
.chart, .bars, .lanes { display: block; width: 100%; height: auto; min-width: 42rem; font-family: inherit; }
.chart { touch-action: pan-x pan-y; cursor: crosshair; }
.bars { max-width: 56rem; }
polyline { fill: none; stroke-linejoin: round; }
.cursor { fill: var(--ink); opacity: .18; pointer-events: none; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: .25rem 0; padding: 0;
  font-size: .875rem; }
.legend svg { width: .8em; height: .8em; margin-right: .4em; }
table { border-collapse: collapse; font-size: .875rem; margin: .5rem 0; }
caption { text-align: left; }
th, td { text-align: left; padding: .15rem 1rem .15rem 0; border-bottom: 1px solid var(--rule); vertical-align: top;
  font-weight: normal; }
.numbers th, .numbers td { text-align: right; font-variant-numeric: tabular-nums; }
.numbers { max-height: 24rem; overflow: auto; }
.tables { display: flex; flex-wrap: wrap; gap: 0 3rem; }
summary { cursor: pointer; font-size: .875rem; color: var(--faint); }
:focus-visible { outline: 2px solid var(--peak); outline-offset: 2px; }
.chart:focus:not(:focus-visible) { outline: none; }
.chart:focus-visible { outline-offset: -2px; }
#tip { position: fixed; z-index: 2; left: 0; top: 0; width: max-content; max-width: 20rem; padding: .5rem .75rem;
  border-radius: 6px; background: var(--paper); color: var(--ink); border: 1px solid var(--faint);
  box-shadow: 0 4px 16px #0005; font-size: .875rem; line-height: 1.4; white-space: pre-line; pointer-events: none; }
#tip svg { display: block; width: 7rem; height: auto; margin-bottom: .25rem; }
#tip[hidden] { display: none; }
.store { position: absolute; width: 0; height: 0; }
"""

SCRIPT = """
"use strict";
const tip = document.getElementById("tip"), SVG = "http://www.w3.org/2000/svg";
function number(value) { return value === null ? "not a number" : String(value); }
function words(told, i) {
  const lines = [`frame ${i}, at ${told.seconds[i]} s`];
  if (told.peaks.length) lines.push(`rho*delta = ${number(told.peaks[i])}`);
  if (told.nearest.length) {
    const event = told.nearest[i], at = told.representatives[event];
    lines.push(`event ${event}, its representative at ${told.seconds[at]} s`);
    if (told.scores.length) lines.push(`s of its event = ${number(told.scores[event])}`);
  }
  lines.push(told.kept.includes(i) ? told.words[1] : told.words[0]);
  if (told.relevant.includes(i)) lines.push("the question needs this frame");
  return lines.join("\\n");
}
function show(told, i, x, y) {
  tip.textContent = words(told, i);
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
for (const story of document.querySelectorAll("section[data-story]")) {
  const told = JSON.parse(story.querySelector("script").textContent), chart = story.querySelector(".chart");
  const cursor = document.createElementNS(SVG, "rect"), last = told.seconds.length - 1, edges = told.edges;
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
  const follow = (place, find) => {  // a finger that is lifted leaves too, but what it found stays until the next touch
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
    show(told, low, event.clientX, event.clientY);
  });
  chart.addEventListener("focus", () => { if (chart.matches(":focus-visible")) show(told, now, ...point(now)); });
  chart.addEventListener("keydown", event => {
    const next = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape" || event.key === "Tab") hide();
    if (next === undefined) return;
    event.preventDefault();
    const i = Math.max(0, Math.min(last, next));
    show(told, i, ...point(i));
  });
  for (const figure of story.querySelectorAll("figure[data-frame]")) {
    const i = Number(figure.dataset.frame);
    follow(figure, event => { point(i); show(told, i, event.clientX, event.clientY); });
  }
}
"""


def sheet(height: int, width: int) -> str:
    """The style sheet: the colours of pictures, others on a dark background; frames have this height and width."""
    names = "".join(
        f".f-{name} {{ fill: var(--{name}); }} .l-{name}, .e-{name} {{ stroke: var(--{name}); }}\n" for name in COLORS
    )
    dark = f"@media (prefers-color-scheme: dark) {{ {variables(DARK)} }}"
    wide = min(14.0, max(4.0, 7 * (width / height) ** 0.5))  # rem; of whatever shape, frames take the same room
    frames = f".frame {{ aspect-ratio: {width} / {height}; }} figure {{ width: {wide:.1f}rem; }}\n"
    return f"{variables(COLORS)}\n{dark}\n{names}{RULES}{frames}"


def variables(colors: dict[str, tuple[int, int, int]]) -> str:
    """Colours under their names."""
    return ":root { " + " ".join(f"--{name}: rgb{color};" for name, color in colors.items()) + " }"
