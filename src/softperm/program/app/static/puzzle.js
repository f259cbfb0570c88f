// The puzzle: choose a picture, scramble it, and put it in order, by hand or with the network.
import { ask, askForPicture, tell } from "./api.js";
import { Board } from "./board.js";
import { Slate } from "./draw.js";
import { EXAMPLES, render } from "./examples.js";
import { Heat } from "./heat.js";
import { drawMixture, smallPieces } from "./mixture.js";
import { Temperature } from "./temperature.js";

const SIDE = 560;
const MOST_BYTES = 32e6;
const by = (id) => document.getElementById(id);
const isRight = (state, at) => at.every((piece, place) => state.fits[piece][place]);
const inSeconds = (seconds) =>
  seconds < 1 ? `${Math.max(1, Math.round(1000 * seconds))} ms` : `${seconds.toFixed(1)} s`;

class Puzzle {
  constructor() {
    Object.assign(this, { turns: {}, pending: 0, state: null });
    this.board = new Board(by("board"), () => this.touched(), () => this.moved());
    this.slate = new Slate(by("slate"));
    this.result = by("puzzle-result");
    this.panel = by("puzzle-soft");
    this.heat = new Heat(
      this.panel.querySelector(".heat"),
      this.panel.querySelector(".readout"),
      (kind, index) => (kind === "row" ? this.thumbnail(index) : String(index + 1)),
      (i, j) => `piece ${i + 1} at place ${j + 1}`,
    );
    this.temperature = new Temperature(
      this.panel.querySelector(".temperature"),
      {
        id: "puzzle",
        row: "a piece",
        places: "places",
        rows: (matrix) => matrix,
        hard: "This is a permutation",
        soft: () =>
          this.twins
            ? "Not a permutation: pieces that look alike share their places, however cold it is."
            : "Not yet a permutation: the scores of some places are too close to each other.",
      },
      (matrix) => {
        this.heat.draw(matrix);
        drawMixture(by("mixture"), this.small, matrix);
      },
    );
    this.listen();
  }

  get k() {
    return Number(document.querySelector("[name=size]:checked").value);
  }

  listen() {
    by("examples").append(...EXAMPLES.map((example, index) => this.thumb(index, example)));
    by("scramble").addEventListener("click", () => this.scramble());
    by("restore").addEventListener("click", () => this.restore());
    by("sizes").addEventListener("change", () => this.scramble());
    by("upload").addEventListener("change", (event) => this.upload(event.target));
    by("draw").addEventListener("click", () => this.drawing(true));
    by("draw-cancel").addEventListener("click", () => this.drawing(false));
    by("draw-clear").addEventListener("click", () => this.slate.clear());
    by("draw-done").addEventListener("click", () => this.useDrawing());
  }

  thumb(index, example) {
    const button = document.createElement("button");
    button.ariaLabel = `Example: ${example.name}`;
    button.ariaPressed = "false";
    button.append(render(example, 112));
    button.addEventListener("click", () => this.choose(index));
    return button;
  }

  choose(index) {
    this.drawing(false);
    render(EXAMPLES[index], SIDE).toBlob((blob) => this.open(blob, index));
  }

  upload(input) {
    const file = input.files[0];
    input.value = ""; // the same file may be chosen again
    if (!file) return;
    if (file.size > MOST_BYTES) {
      tell(this.result, `A picture must have at most ${MOST_BYTES / 1e6} MB.`, true);
    } else {
      this.drawing(false);
      this.open(file);
    }
  }

  drawing(on) {
    by("drawing").hidden = !on;
    by("board").hidden = on;
    this.enable();
    if (on) tell(this.result, "Draw a digit, large and in the middle.");
  }

  enable() {
    const drawing = !by("drawing").hidden;
    by("scramble").disabled = drawing;
    by("restore").disabled = drawing || !this.state;
  }

  useDrawing() {
    if (this.slate.empty) return tell(this.result, "Nothing is drawn yet.", true);
    this.drawing(false);
    this.slate.canvas.toBlob((blob) => this.open(blob));
  }

  // Do what may fail; a later call of the same kind makes the results of earlier ones void.
  async attempt(kind, work) {
    const turn = (this.turns[kind] = (this.turns[kind] ?? 0) + 1);
    const current = () => turn === this.turns[kind];
    this.pending += 1;
    document.body.ariaBusy = "true";
    try {
      await work(current);
    } catch (error) {
      if (current()) tell(this.result, error.message, true);
    }
    this.pending -= 1;
    document.body.ariaBusy = String(this.pending > 0);
  }

  open(blob, example = null) {
    tell(this.result, "Reading the picture.");
    return this.attempt("open", async (current) => {
      const picture = await askForPicture(blob);
      const image = new Image();
      image.src = URL.createObjectURL(picture);
      await image.decode();
      if (!current()) return;
      if (this.image) URL.revokeObjectURL(this.image.src);
      Object.assign(this, { image, picture });
      for (const [index, thumb] of [...by("examples").children].entries()) {
        thumb.ariaPressed = String(index === example);
      }
      await this.scramble();
    });
  }

  lay(at) {
    const size = { width: this.image.naturalWidth, height: this.image.naturalHeight };
    this.board.load(this.image.src, this.k, at, size);
  }

  scramble() {
    if (!this.picture) return undefined;
    this.endRace();
    return this.attempt("play", async (current) => {
      const seed = Math.floor(Math.random() * 2 ** 32);
      const state = await ask("scramble", this.picture, { pieces: this.k, seed });
      if (!current()) return;
      this.panel.hidden = true;
      this.state = state.alike ? null : state;
      const whole = Array.from({ length: this.k ** 2 }, (_, place) => place);
      this.enable();
      by("race-you").textContent = by("race-net").textContent = "–";
      if (state.alike) {
        this.lay(whole);
        const levels = `within ${state.tolerance} of 255 grey levels`;
        return tell(this.result, `Nothing to solve: all pieces look the same, ${levels}.`);
      }
      this.lay(whole);
      await new Promise(requestAnimationFrame); // from where they belong they fly apart
      if (!current()) return;
      this.board.arrange(state.order);
      tell(this.result, "Scrambled. Put it in order, or let the network do it.");
    });
  }

  // The clock starts when the first piece is taken up.
  touched() {
    const { state } = this;
    if (!state || state.done) return;
    state.begin ??= performance.now();
    this.ticking ??= setInterval(() => {
      by("race-you").textContent = inSeconds((performance.now() - state.begin) / 1000);
    }, 100);
  }

  moved() {
    const { state } = this;
    if (!state) return;
    if (state.done) return tell(this.result, "");
    state.moves = (state.moves ?? 0) + 1;
    if (isRight(state, this.board.at)) this.finish();
    else tell(this.result, `${state.moves} ${state.moves === 1 ? "swap" : "swaps"} so far.`);
  }

  endRace() {
    clearInterval(this.ticking);
    this.ticking = undefined;
    if (this.state) this.state.done = true;
  }

  // The user has solved it: let the network solve the same scramble.
  finish() {
    const { state } = this;
    this.endRace();
    const seconds = (performance.now() - state.begin) / 1000;
    by("race-you").textContent = inSeconds(seconds);
    return this.attempt("play", async (current) => {
      const found = await this.solve(state.order);
      if (!current()) return;
      const rival = found.wrong ? `left ${found.wrong} pieces wrong` : "solved it too";
      const swaps = `${state.moves} ${state.moves === 1 ? "swap" : "swaps"}`;
      tell(this.result, `Solved in ${inSeconds(seconds)} with ${swaps}. The network ${rival}.`);
      this.show(found, state.order);
    });
  }

  solve(order) {
    return ask("restore", this.picture, { pieces: this.k, order: order.join(",") });
  }

  restore() {
    if (!this.state) return undefined;
    const { state } = this;
    if (!state.done) by("race-you").textContent = "–";
    this.endRace();
    const before = [...this.board.at];
    return this.attempt("play", async (current) => {
      const found = await this.solve(before);
      if (!current()) return;
      this.board.arrange(found.order);
      this.board.mark(found.order.flatMap((piece, j) => (state.fits[piece][j] ? [] : [j])));
      const said = found.verdict[0].toUpperCase() + found.verdict.slice(1);
      const light = " The background is light: the network was shown the negative.";
      tell(this.result, `Restored: ${said}.${found.inverted ? light : ""}`.replace(": E", ": e"));
      this.show(found, before);
    });
  }

  show(found, before) {
    by("race-net").textContent = inSeconds(found.seconds);
    this.panel.hidden = false;
    Object.assign(this, { before, twins: found.twins });
    this.small = smallPieces(this.image, this.k, before);
    this.temperature.load(found);
    this.temperature.playWhenSeen();
  }

  thumbnail(row) {
    return (context, x, y, width, height) => {
      const side = Math.min(width, height) * 0.86;
      const { k } = this.small;
      const [w, h] = [this.image.naturalWidth / k, this.image.naturalHeight / k];
      const piece = this.before[row];
      const from = [(piece % k) * w, Math.floor(piece / k) * h, w, h];
      const to = [x + (width - side) / 2, y + (height - side) / 2, side, side];
      context.drawImage(this.image, ...from, ...to);
    };
  }
}

export function startPuzzle() {
  new Puzzle().choose(0);
}
