// A matrix of weights from 0 to 1 as a grid of colours, with a heading for every line.

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Fit the pixels of a canvas to what it covers on the screen; drawing is then in CSS pixels.
export function prepare(canvas, ratio = 1) {
  const width = canvas.clientWidth || 300;
  const height = Math.round(width * ratio);
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function parse(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function mix(low, high, share) {
  const parts = low.map((value, index) => Math.round(value + (high[index] - value) * share));
  return `rgb(${parts.join(" ")})`;
}

export class Heat {
  // heads(kind, index) gives the text of a heading, or a function that draws it.
  constructor(canvas, readout, heads, names) {
    Object.assign(this, { canvas, readout, heads, names });
    canvas.addEventListener("pointermove", (event) => this.read(event));
    canvas.addEventListener("pointerdown", (event) => this.read(event));
    canvas.addEventListener("pointerleave", () => this.rest());
  }

  rest() {
    this.readout.textContent = "weights from 0 (faint) to 1 (strong); touch a cell to read it";
  }

  draw(matrix) {
    this.matrix = matrix;
    const [rows, columns] = [matrix.length, matrix[0].length];
    const lines = Math.max(rows, columns);
    const outer = this.canvas.clientWidth || 300;
    this.head = Math.max(24, Math.min(44, outer / (lines + 1)));
    this.cell = Math.min(56, (outer - this.head) / lines);
    const { context } = prepare(this.canvas, (this.head + rows * this.cell) / outer);
    this.drawHeads(context, rows, columns);
    const [low, high] = [parse(colour("--heat-low")), parse(colour("--heat-high"))];
    const gap = this.cell > 12 ? 1.5 : 0.75;
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        context.fillStyle = mix(low, high, Math.min(1, matrix[i][j]));
        const [x, y] = [this.head + j * this.cell, this.head + i * this.cell];
        context.fillRect(x + gap / 2, y + gap / 2, this.cell - gap, this.cell - gap);
      }
    }
    this.rest();
  }

  drawHeads(context, rows, columns) {
    context.fillStyle = colour("--faint");
    context.textAlign = "center";
    context.textBaseline = "middle";
    const { head, cell } = this;
    context.font = `${Math.max(9, Math.min(13, cell * 0.55))}px system-ui, sans-serif`;
    const put = (what, x, y, width, height) => {
      if (typeof what === "function") what(context, x, y, width, height);
      else context.fillText(what, x + width / 2, y + height / 2, width - 2);
    };
    for (let i = 0; i < rows; i++) put(this.heads("row", i), 0, head + i * cell, head, cell);
    for (let j = 0; j < columns; j++) put(this.heads("column", j), head + j * cell, 0, cell, head);
  }

  read(event) {
    if (!this.matrix) return;
    const box = this.canvas.getBoundingClientRect();
    const i = Math.floor((event.clientY - box.top - this.head) / this.cell);
    const j = Math.floor((event.clientX - box.left - this.head) / this.cell);
    const value = this.matrix[i]?.[j];
    if (value === undefined) return this.rest();
    this.readout.textContent = `${this.names(i, j)}: ${value.toFixed(3)}`;
  }
}
