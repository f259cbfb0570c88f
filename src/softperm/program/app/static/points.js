// Two sets of points: added, moved and taken away, and matched after every change.
import { ask, tell } from "./api.js";
import { Heat } from "./heat.js";
import { Temperature } from "./temperature.js";

const MOST = 20;
const NAMES = ["circle", "square"];
const FAR = 6; // pixels that make a drag of a tap
const by = (id) => document.getElementById(id);
const within = (value) => Math.max(0.035, Math.min(0.965, value));
const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

function svg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function line([x1, y1], [x2, y2], name, opacity = 1) {
  const at = { x1: 1000 * x1, y1: 1000 * y1, x2: 1000 * x2, y2: 1000 * y2 };
  return svg("line", { class: name, "stroke-opacity": opacity, ...at });
}

// Five pairs of near points, and three outliers.
function example() {
  const near = (value) => within(value + 0.12 * (Math.random() - 0.5));
  const around = (points) => points.map((point) => point.map(near));
  const first = around([[0.2, 0.25], [0.45, 0.2], [0.75, 0.35], [0.3, 0.7], [0.65, 0.75]]);
  return [
    [...first, ...around([[0.9, 0.9]])],
    [...around(first), ...around([[0.08, 0.5], [0.5, 0.48]])],
  ];
}

class Points {
  constructor() {
    this.field = by("field");
    this.sets = example();
    this.panel = by("points-soft");
    const label = (set, index) => (index === this.sets[set].length ? "–" : String(index + 1));
    const name = (set, index) =>
      index === this.sets[set].length ? "nothing" : `${NAMES[set]} ${index + 1}`;
    this.heat = new Heat(
      this.panel.querySelector(".heat"),
      this.panel.querySelector(".readout"),
      (kind, index) => label(kind === "row" ? 0 : 1, index),
      (i, j) => `${name(0, i)} with ${name(1, j)}`,
    );
    const words = {
      id: "points",
      row: "a circle",
      places: "choices",
      rows: (matrix) => matrix.slice(0, this.found.partners.length),
      hard: "This is a matching",
      soft: () => "Not yet a matching: some distances are too close to each other.",
    };
    this.temperature = new Temperature(by("points-temperature"), words, (matrix) => {
      if (!this.fits(matrix)) return; // the points have changed, and an answer is awaited
      this.heat.draw(matrix);
      this.draw(matrix);
    });
    this.listen();
    this.match();
  }

  listen() {
    this.field.addEventListener("click", (event) => this.tap(event));
    by("points-add").addEventListener("click", () =>
      this.add([0.1 + 0.8 * Math.random(), 0.1 + 0.8 * Math.random()]));
    by("points-example").addEventListener("click", () => this.replace(example()));
    by("points-clear").addEventListener("click", () => this.replace([[], []]));
    for (const id of ["slack", "reach"]) by(id).addEventListener("input", () => this.match());
  }

  replace(sets) {
    this.sets = sets;
    this.match();
  }

  at(event) {
    const box = this.field.getBoundingClientRect();
    return [
      within((event.clientX - box.left) / box.width),
      within((event.clientY - box.top) / box.height),
    ];
  }

  tap(event) {
    if (!event.target.closest(".point")) this.add(this.at(event));
  }

  add(point) {
    const set = Number(document.querySelector("[name=set]:checked").value);
    if (this.sets[set].length === MOST) {
      return tell(by("points-result"), `There can be at most ${MOST} ${NAMES[set]}s.`, true);
    }
    this.sets[set].push(point);
    return this.match();
  }

  remove(set, index) {
    this.sets[set].splice(index, 1);
    this.match();
  }

  get reach() {
    return by("slack").checked ? Number(by("reach").value) : null;
  }

  fits(matrix) {
    const [m, n] = this.sets.map((points) => points.length);
    const extra = matrix.length - m;
    return this.found?.partners.length === m && matrix[0].length === n + extra;
  }

  // Ask for the matching of the points as they are; while an answer is awaited, at most once more.
  async match() {
    by("reach").disabled = this.reach === null;
    by("reach-value").textContent = this.reach?.toFixed(2) ?? "any";
    this.waiting = true;
    if (this.asking) return;
    this.asking = true;
    while (this.waiting) {
      this.waiting = false;
      await this.update();
    }
    this.asking = false;
  }

  async update() {
    const [first, second] = structuredClone(this.sets);
    if (!first.length || !second.length) {
      this.found = null;
      this.temperature.stop();
      this.panel.hidden = by("points-temperature").hidden = true;
      this.draw(null);
      return tell(by("points-result"), "Add at least one circle and one square.");
    }
    try {
      const found = await ask("points", { first, second, reach: this.reach });
      const now = this.sets.map((points) => points.length);
      if (now[0] !== first.length || now[1] !== second.length) return undefined; // asked for again
      this.found = found;
      this.panel.hidden = by("points-temperature").hidden = false;
      this.temperature.load(found, this.shown);
      if (!this.shown) {
        this.temperature.slider.value = Math.round(0.55 * this.temperature.slider.max);
        this.temperature.update();
      }
      this.shown = true;
      return this.say(found, second.length);
    } catch (error) {
      return tell(by("points-result"), error.message, true);
    }
  }

  say(found, columns) {
    const taken = new Set(found.partners.filter((j) => j >= 0));
    const alone = [found.partners.filter((j) => j < 0).length, columns - taken.size];
    const left = alone.flatMap((count, set) => (count ? [plural(count, NAMES[set])] : []));
    const without = left.length ? `; ${left.join(" and ")} without a partner` : "";
    tell(by("points-result"), `${plural(taken.size, "pair")}${without}.`);
  }

  draw(matrix) {
    const focused = document.activeElement?.dataset?.name;
    const [first, second] = this.sets;
    const lines = [];
    for (const [i, a] of first.entries()) {
      for (const [j, b] of second.entries()) {
        const weight = matrix?.[i]?.[j] ?? 0;
        if (weight > 0.01) lines.push(line(a, b, "weight", 0.85 * weight));
      }
    }
    for (const [i, j] of (this.found?.partners ?? []).entries()) {
      if (j >= 0) lines.push(line(first[i], second[j], "pairing"));
    }
    const alone = matrix ? this.alone(matrix) : [[], []];
    const marks = this.sets.flatMap((points, set) =>
      points.map((point, index) => this.mark(set, index, point, alone[set][index] ?? 0)));
    if (this.holding) return this.redraw(lines, marks);
    this.field.replaceChildren(...lines, ...marks);
    const again = focused && this.field.querySelector(`[data-name="${focused}"]`);
    return again?.focus({ preventScroll: true });
  }

  // How much of every point stays unmatched: its slack, or what its pairs leave of 1.
  alone(matrix) {
    const [first, second] = this.sets;
    const slack = matrix.length > first.length;
    return [
      first.map((_, i) => (slack ? matrix[i].at(-1) : 1 - total(matrix[i]))),
      second.map((_, j) => (slack ? matrix.at(-1)[j] : 1 - total(matrix.map((row) => row[j])))),
    ];
  }

  // While a point is held its element has to stay.
  redraw(lines, marks) {
    const held = this.holding;
    const others = marks.filter((mark) => mark.dataset.name !== held.dataset.name);
    for (const child of [...this.field.children]) if (child !== held) child.remove();
    this.field.prepend(...lines, ...others);
  }

  mark(set, index, [x, y], alone) {
    const name = `${NAMES[set]} ${index + 1}`;
    const group = svg("g", {
      class: "point", tabindex: 0, role: "button", "data-name": name,
      transform: `translate(${1000 * x} ${1000 * y})`,
      "aria-label": `${name}: arrow keys move it, Delete takes it away`,
    });
    group.append(svg("circle", { class: "reachable", r: 52 }));
    group.append(svg("circle", { class: "focus", r: 40 }));
    if (alone > 0.01) {
      group.append(svg("circle", { class: "ring", r: 32, "stroke-opacity": Math.min(1, alone) }));
    }
    group.append(
      set === 0
        ? svg("circle", { class: "first", r: 18 })
        : svg("rect", { class: "second", x: -17, y: -17, width: 34, height: 34, rx: 4 }),
    );
    group.addEventListener("pointerdown", (event) => this.hold(event, set, index, group));
    group.addEventListener("dblclick", () => this.remove(set, index));
    group.addEventListener("keydown", (event) => this.key(event, set, index));
    return group;
  }

  key(event, set, index) {
    const step = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    }[event.key];
    if (event.key === "Delete" || event.key === "Backspace") this.remove(set, index);
    else if (step) this.move(set, index, step);
    else return;
    event.preventDefault();
  }

  move(set, index, step) {
    this.sets[set][index] = this.sets[set][index].map((v, axis) => within(v + 0.02 * step[axis]));
    this.match();
  }

  hold(event, set, index, group) {
    if (event.button !== 0) return;
    let dragged = false;
    const move = (now) => {
      const far = Math.hypot(now.clientX - event.clientX, now.clientY - event.clientY);
      if (!dragged && far < FAR) return;
      dragged = true;
      this.holding = group;
      const [x, y] = (this.sets[set][index] = this.at(now));
      group.setAttribute("transform", `translate(${1000 * x} ${1000 * y})`);
      this.match();
    };
    const end = () => {
      group.removeEventListener("pointermove", move);
      group.removeEventListener("pointerup", end);
      group.removeEventListener("pointercancel", end);
      this.holding = null;
      if (dragged) this.match();
    };
    group.setPointerCapture(event.pointerId);
    group.addEventListener("pointermove", move);
    group.addEventListener("pointerup", end);
    group.addEventListener("pointercancel", end);
  }
}

function total(values) {
  return values.reduce((sum, value) => sum + value, 0);
}

export function startPoints() {
  new Points();
}
