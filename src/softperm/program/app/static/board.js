// The pieces of a picture on a square board: dragged, tapped or swapped with the keys.

const FAR = 6; // pixels that make a drag of a tap

export class Board {
  // touched() is called when a piece is taken up, swapped() when two have changed places.
  constructor(root, touched, swapped) {
    Object.assign(this, { root, touched, swapped, k: 0, at: [], pieces: [], picked: null });
    root.addEventListener("keydown", (event) => this.key(event));
  }

  // Show the picture at url in k x k pieces; at[place] is the piece there.
  load(url, k, at, size) {
    Object.assign(this, { k, picked: null });
    this.root.style.aspectRatio = `${size.width} / ${size.height}`;
    this.pieces = at.map((_, piece) => this.make(url, k, piece, size));
    this.root.replaceChildren(...this.pieces);
    this.arrange(at);
  }

  make(url, k, piece, size) {
    const element = document.createElement("button");
    const share = (place) => `${(100 * place) / (k - 1)}%`;
    element.className = "piece";
    element.classList.toggle("pixels", size.width < 200);
    element.style.width = element.style.height = `${100 / k}%`;
    element.style.backgroundImage = `url("${url}")`;
    element.style.backgroundSize = `${100 * k}% ${100 * k}%`;
    element.style.backgroundPosition = `${share(piece % k)} ${share(Math.floor(piece / k))}`;
    element.addEventListener("pointerdown", (event) => this.hold(event, piece));
    element.addEventListener("click", (event) => {
      if (event.detail === 0) this.pick(this.at.indexOf(piece)); // keys and assistive tools
    });
    return element;
  }

  arrange(at) {
    this.at = [...at];
    for (const [place, piece] of at.entries()) {
      const element = this.pieces[piece];
      const [row, column] = [Math.floor(place / this.k), place % this.k];
      element.style.transform = `translate(${100 * column}%, ${100 * row}%)`;
      element.classList.remove("wrong", "picked", "target", "held");
      element.tabIndex = place === (this.focused ?? 0) ? 0 : -1;
      element.ariaPressed = "false";
      element.ariaLabel = `Piece at row ${row + 1}, column ${column + 1}`;
    }
    this.picked = null;
  }

  mark(places) {
    for (const place of places) {
      this.pieces[this.at[place]].classList.add("wrong");
      this.pieces[this.at[place]].ariaLabel += ", wrong";
    }
  }

  swap(first, second) {
    const at = [...this.at];
    [at[first], at[second]] = [at[second], at[first]];
    this.arrange(at);
    if (first !== second) this.swapped();
  }

  // The first piece is picked, the second changes places with it.
  pick(place) {
    this.touched();
    this.focus(place);
    if (this.picked === null) {
      this.picked = place;
      const element = this.pieces[this.at[place]];
      element.classList.add("picked");
      element.ariaPressed = "true";
    } else {
      this.swap(this.picked, place);
      this.focus(place);
    }
  }

  focus(place) {
    for (const piece of this.pieces) piece.tabIndex = -1;
    this.focused = place;
    this.pieces[this.at[place]].tabIndex = 0;
    this.pieces[this.at[place]].focus({ preventScroll: true });
  }

  key(event) {
    const step = {
      ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
    }[event.key];
    if (event.key === "Escape") this.arrange(this.at);
    if (!step) return;
    event.preventDefault();
    const place = this.at.indexOf(this.pieces.indexOf(document.activeElement));
    if (place < 0) return;
    const clamp = (value) => Math.max(0, Math.min(this.k - 1, value));
    const row = clamp(Math.floor(place / this.k) + step[0]);
    this.focus(row * this.k + clamp((place % this.k) + step[1]));
  }

  placeUnder(event) {
    const box = this.root.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.k);
    const row = Math.floor(((event.clientY - box.top) / box.height) * this.k);
    const inside = Math.min(row, column) >= 0 && Math.max(row, column) < this.k;
    return inside ? row * this.k + column : null;
  }

  hold(event, piece) {
    if (event.button !== 0) return;
    const element = this.pieces[piece];
    const from = this.at.indexOf(piece);
    const home = element.style.transform;
    let dragged = false;
    const move = (now) => {
      const [x, y] = [now.clientX - event.clientX, now.clientY - event.clientY];
      if (!dragged && Math.hypot(x, y) < FAR) return;
      if (!dragged) this.touched();
      dragged = true;
      element.classList.add("held");
      element.style.transform = `${home} translate(${x}px, ${y}px)`;
      const target = this.placeUnder(now);
      for (const [place, other] of this.at.entries()) {
        this.pieces[other].classList.toggle("target", place === target && other !== piece);
      }
    };
    const end = (now) => {
      element.removeEventListener("pointermove", move);
      element.removeEventListener("pointerup", end);
      element.removeEventListener("pointercancel", end);
      const over = now.type === "pointerup";
      if (dragged) this.swap(from, (over ? this.placeUnder(now) : from) ?? from);
      else if (over) this.pick(from);
    };
    element.setPointerCapture(event.pointerId);
    element.addEventListener("pointermove", move);
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
  }
}
