// A slider through the temperatures at which the server computed the soft matrix.

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const SHARP = 0.01;

// exp of the mean entropy of the rows: over how many places a row is spread.
function spread(matrix) {
  let sum = 0;
  for (const row of matrix) {
    const total = row.reduce((a, b) => a + b, 0) || 1;
    for (const value of row) if (value > 0) sum -= (value / total) * Math.log(value / total);
  }
  return Math.exp(sum / matrix.length);
}

function isSharp(matrix) {
  return matrix.every((row) => row.every((value) => Math.min(value, 1 - value) <= SHARP));
}

export class Temperature {
  // words: what a row is, and what is said where no temperature makes the matrix hard.
  constructor(root, words, show) {
    Object.assign(this, { words, show });
    const label = document.createElement("label");
    this.slider = document.createElement("input");
    this.slider.type = "range";
    this.slider.id = label.htmlFor = `${words.id}-tau`;
    this.button = document.createElement("button");
    this.button.textContent = "Cool down";
    this.info = document.createElement("p");
    this.info.id = `${words.id}-info`;
    this.slider.setAttribute("aria-describedby", this.info.id);
    this.label = label;
    root.append(label, this.slider, this.button, this.info);
    this.slider.addEventListener("input", () => {
      this.stop();
      this.update();
    });
    this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
    const redraw = () => root.offsetParent && this.update(); // where it is not hidden
    addEventListener("resize", redraw);
    dark.addEventListener("change", redraw);
  }

  // Show other matrices; at the same step as before, or at the coldest.
  load(cooled, keep = false) {
    this.stop();
    const last = cooled.taus.length - 1;
    this.cooled = cooled;
    this.slider.max = last;
    if (!keep) this.slider.value = last;
    this.update();
  }

  // Cool down once the slider is seen, which on a phone may be below the picture.
  playWhenSeen() {
    this.stop();
    if (calm.matches) return;
    this.slider.value = 0;
    this.update();
    this.seen = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) this.play();
    });
    this.seen.observe(this.slider);
  }

  play() {
    this.stop();
    if (calm.matches) {
      this.slider.value = this.slider.max;
      return this.update();
    }
    this.slider.value = 0;
    this.button.textContent = "Stop";
    this.update();
    this.timer = setInterval(() => {
      this.slider.value = Number(this.slider.value) + 1;
      this.update();
      if (this.slider.value === this.slider.max) this.stop();
    }, 70);
  }

  stop() {
    this.seen?.disconnect();
    clearInterval(this.timer);
    this.timer = undefined;
    this.button.textContent = "Cool down";
  }

  update() {
    if (!this.cooled) return;
    const step = Number(this.slider.value);
    const tau = this.cooled.taus[step];
    this.label.textContent = `Temperature τ = ${tau}`;
    this.slider.setAttribute("aria-valuetext", `temperature ${tau}`);
    this.describe(step);
    this.show(this.cooled.matrices[step]);
  }

  describe(step) {
    const matrix = this.cooled.matrices[step];
    const [iterations, error] = [this.cooled.iterations[step], this.cooled.errors[step]];
    const off = Number(error.toPrecision(1));
    const rows = this.words.rows(matrix);
    const count = Math.max(1, spread(rows)).toFixed(rows[0].length > 9 ? 1 : 2);
    const parts = [`On average ${this.words.row} is spread over ${count} ${this.words.places}.`];
    if (!this.cooled.converged[step]) {
      const bad = document.createElement("span");
      bad.className = "bad";
      bad.textContent =
        `Not converged: after ${iterations} iterations a row sum is still off by ${off}, ` +
        "so this is not yet the soft matrix of this temperature.";
      return this.info.replaceChildren(parts[0], " ", bad);
    }
    if (isSharp(matrix)) parts.push(`${this.words.hard}, to within ${SHARP}.`);
    else if (step === this.cooled.taus.length - 1) parts.push(this.words.soft());
    const exact = "Rows and columns have their sums";
    const sums = off < 1e-9 ? exact : `Columns have their sums, rows to within ${off}`;
    parts.push(`${sums}, after ${iterations} ${iterations === 1 ? "iteration" : "iterations"}.`);
    this.info.textContent = parts.join(" ");
  }
}
