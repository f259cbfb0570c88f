// Numbers that are typed, sorted softly.
import { ask, tell } from "./api.js";
import { colour, Heat, prepare } from "./heat.js";
import { Temperature } from "./temperature.js";

const by = (id) => document.getElementById(id);
const short = (number) => String(Number(number.toPrecision(3)));

// The list that a soft matrix makes: y_j = sum over i of P_ij x_i.
function softly(numbers, matrix) {
  return numbers.map((_, j) => numbers.reduce((sum, x, i) => sum + matrix[i][j] * x, 0));
}

function drawBars(canvas, values, sorted) {
  const { context, width, height } = prepare(canvas, 0.75);
  const [low, high] = [Math.min(0, ...sorted), Math.max(0, ...sorted)];
  const y = (value) => 12 + ((high - value) / (high - low || 1)) * (height - 24);
  const step = width / values.length;
  context.fillStyle = colour("--accent");
  for (const [j, value] of values.entries()) {
    const [top, bottom] = [Math.min(y(value), y(0)), Math.max(y(value), y(0))];
    context.beginPath();
    context.roundRect(j * step + step * 0.18, top, step * 0.64, Math.max(1, bottom - top), 3);
    context.fill();
  }
  context.strokeStyle = colour("--ink");
  context.lineWidth = 2;
  for (const [j, value] of sorted.entries()) {
    context.beginPath();
    context.moveTo(j * step + step * 0.08, y(value));
    context.lineTo(j * step + step * 0.92, y(value));
    context.stroke();
  }
  context.strokeStyle = colour("--line");
  context.lineWidth = 1;
  context.strokeRect(0, y(0), width, 0);
}

class Sort {
  constructor() {
    this.panel = by("sort-soft");
    this.heat = new Heat(
      this.panel.querySelector(".heat"),
      this.panel.querySelector(".readout"),
      (kind, index) => (kind === "row" ? short(this.found.numbers[index]) : String(index + 1)),
      (i, j) => `${this.found.numbers[i]} at place ${j + 1}`,
    );
    const words = {
      id: "sort",
      row: "a number",
      places: "places",
      rows: (matrix) => matrix,
      hard: "This is a permutation",
      soft: () =>
        this.found.equal
          ? "Not a permutation: equal numbers share their places, however cold it is."
          : "Not yet a permutation: some numbers are close to each other, beside the others.",
    };
    this.temperature = new Temperature(this.panel.querySelector(".temperature"), words, (matrix) => {
      const values = softly(this.found.numbers, matrix);
      this.heat.draw(matrix);
      drawBars(by("bars"), values, this.found.sorted);
      by("soft-list").textContent = `softly sorted: ${values.map(short).join(", ")}`;
    });
    by("sort-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.sort();
    });
  }

  async sort() {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    try {
      const found = await ask("sort", { numbers: by("numbers").value });
      if (turn !== this.turn) return;
      this.found = found;
      const list = found.sorted.join(", ");
      const close = "Some numbers are closer to each other than float64 can tell beside the others: ";
      tell(by("sort-result"), `${found.in_order ? "Sorted: " : close}${list}`, !found.in_order);
      this.panel.hidden = false;
      this.temperature.load(found);
      this.temperature.playWhenSeen();
    } catch (error) {
      if (turn !== this.turn) return;
      tell(by("sort-result"), error.message, true);
      this.panel.hidden = true;
    }
  }
}

export function startSort() {
  new Sort().sort();
}
