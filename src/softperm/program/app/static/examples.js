// Pictures to begin with: digits as strokes in the unit square, and a landscape.
import { PEN } from "./draw.js";

const DIGITS = {
  2: [[[0.31, 0.33], [0.38, 0.2], [0.55, 0.17], [0.67, 0.3], [0.6, 0.48], [0.42, 0.65], [0.3, 0.8], [0.5, 0.77], [0.72, 0.8]]],
  3: [[[0.32, 0.24], [0.48, 0.16], [0.66, 0.24], [0.64, 0.4], [0.47, 0.48], [0.66, 0.54], [0.69, 0.72], [0.5, 0.84], [0.3, 0.76]]],
  4: [[[0.38, 0.17], [0.34, 0.36], [0.32, 0.52], [0.5, 0.53], [0.7, 0.5]], [[0.65, 0.2], [0.62, 0.5], [0.59, 0.83]]],
  5: [[[0.68, 0.18], [0.52, 0.18], [0.38, 0.19]], [[0.38, 0.19], [0.36, 0.32], [0.34, 0.45], [0.54, 0.42], [0.68, 0.56], [0.62, 0.76], [0.44, 0.84], [0.3, 0.76]]],
  7: [[[0.28, 0.24], [0.5, 0.22], [0.7, 0.22]], [[0.7, 0.22], [0.58, 0.48], [0.46, 0.84]]],
  9: [[[0.66, 0.28], [0.52, 0.17], [0.35, 0.28], [0.38, 0.46], [0.56, 0.46], [0.66, 0.3], [0.65, 0.5], [0.6, 0.84]]],
};

// A smooth line through the middles of its parts.
function line(context, points) {
  context.beginPath();
  context.moveTo(...points[0]);
  for (let i = 1; i < points.length - 1; i++) {
    const middle = [0, 1].map((axis) => (points[i][axis] + points[i + 1][axis]) / 2);
    context.quadraticCurveTo(...points[i], ...(i < points.length - 2 ? middle : points[i + 1]));
  }
  if (points.length === 2) context.lineTo(...points[1]);
  context.stroke();
}

function digit(name, ink, ground) {
  return (context, side) => {
    context.fillStyle = ground;
    context.fillRect(0, 0, side, side);
    context.save();
    context.scale(side, side);
    Object.assign(context, { strokeStyle: ink, lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    for (const points of DIGITS[name]) line(context, points);
    context.restore();
  };
}

function landscape(context, side) {
  const sky = context.createLinearGradient(0, 0, 0, 0.7 * side);
  sky.addColorStop(0, "#23356b");
  sky.addColorStop(0.6, "#c9667a");
  sky.addColorStop(1, "#f6c27a");
  context.fillStyle = sky;
  context.fillRect(0, 0, side, side);
  context.fillStyle = "#ffe9b8";
  context.beginPath();
  context.arc(0.64 * side, 0.46 * side, 0.1 * side, 0, 7);
  context.fill();
  for (const [base, height, shade] of [[0.62, 0.12, "#5a4a6e"], [0.74, 0.09, "#3c3557"], [0.87, 0.07, "#231f3a"]]) {
    context.fillStyle = shade;
    context.beginPath();
    context.moveTo(0, side);
    for (let x = 0; x <= 1.001; x += 0.02) {
      context.lineTo(x * side, (base - height * Math.sin(9 * x * (1.3 - base) + 20 * base)) * side);
    }
    context.lineTo(side, side);
    context.fill();
  }
}

export const EXAMPLES = [
  { name: "a three", paint: digit(3, "#fff", "#000") },
  { name: "a five", paint: digit(5, "#fff", "#000") },
  { name: "a two", paint: digit(2, "#fff", "#000") },
  { name: "a four, in ink on paper", paint: digit(4, "#26262b", "#f4efe3") },
  { name: "a seven, in yellow on blue", paint: digit(7, "#ffd34d", "#10224f") },
  { name: "a nine, in rose on green", paint: digit(9, "#ffc4d6", "#0c2f27") },
  { name: "a landscape, which no network here knows", paint: landscape },
];

export function render({ paint }, side) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  paint(canvas.getContext("2d"), side);
  return canvas;
}
