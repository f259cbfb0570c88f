// Tabs: each part of the page is set up when it is first shown.
import { startPoints } from "./points.js";
import { startPuzzle } from "./puzzle.js";
import { startSort } from "./sort.js";

const PARTS = { puzzle: startPuzzle, sort: startSort, points: startPoints };
const started = new Set();
const tabs = [...document.querySelectorAll("[role=tab]")];

function show(name) {
  for (const tab of tabs) {
    const chosen = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (!started.has(name)) {
    started.add(name);
    PARTS[name]();
  }
  dispatchEvent(new Event("resize")); // what was hidden has a size now
}

function fromAddress() {
  const name = location.hash.slice(1);
  show(name in PARTS ? name : "puzzle");
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => {
    const name = tab.getAttribute("aria-controls");
    if (!document.getElementById(name).hidden) return;
    history.pushState(null, "", `#${name}`); // location.hash would take the focus away
    show(name);
  });
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const next = tabs[(index + step + tabs.length) % tabs.length];
      next.focus();
      next.click();
    }
  });
}
addEventListener("popstate", fromAddress);
fromAddress();
