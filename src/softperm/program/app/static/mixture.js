// The picture that a soft matrix makes of pieces: y_j = sum over i of P_ij x_i.

const SIDE = 420; // pixels of the longer side, at most

// The pixels of every piece, as they lie, in a small copy of the picture.
export function smallPieces(image, k, at) {
  const scale = Math.min(1, SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const fit = (side) => Math.max(1, Math.round((side * scale) / k));
  const [width, height] = [fit(image.naturalWidth), fit(image.naturalHeight)];
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width * k, height * k];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const pixels = at.map((piece) =>
    context.getImageData((piece % k) * width, Math.floor(piece / k) * height, width, height).data);
  return { width, height, k, pixels };
}

export function drawMixture(canvas, pieces, matrix) {
  const { width, height, k, pixels } = pieces;
  [canvas.width, canvas.height] = [width * k, height * k];
  const context = canvas.getContext("2d");
  for (let place = 0; place < matrix.length; place++) {
    const sum = new Float32Array(4 * width * height);
    for (const [row, data] of pixels.entries()) {
      const weight = matrix[row][place];
      if (weight < 0.001) continue;
      for (let i = 0; i < sum.length; i++) sum[i] += weight * data[i];
    }
    const out = new ImageData(Uint8ClampedArray.from(sum), width, height);
    context.putImageData(out, (place % k) * width, Math.floor(place / k) * height);
  }
}
