// Matrices on a canvas: one cell a value, labels around, the same colours at all steps.

/** Draws (rows, columns) of colours as cells of a size in pixels, on a canvas of its own. */
function cells(rows, columns, colour, size) {
  const image = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    const [r, g, b] = colour(i);
    image.data[4 * i] = r;
    image.data[4 * i + 1] = g;
    image.data[4 * i + 2] = b;
    image.data[4 * i + 3] = 255;
  }
  const small = new OffscreenCanvas(columns, rows);
  small.getContext("2d").putImageData(image, 0, 0);
  return { small, width: columns * size[0], height: rows * size[1] };
}

/** A canvas of a size in CSS pixels, sharp on dense screens; its context. */
function prepared(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  context.font = "10px DejaVu Sans, Verdana, sans-serif";
  context.fillStyle = INK[theme()];
  context.strokeStyle = context.fillStyle;
  return context;
}

/**
 * Draws a matrix with labels.
 *
 * shape [rows, columns]; colour(i) → [r, g, b] of cell i, row by row; size [width, height] of a
 * cell; rows and columns: [position, label]; marked: cells that are framed.
 */
function heatmap(canvas, { shape, colour, size, rows, columns, marked = [] }) {
  const [left, top] = [28, 14];
  const { small, width, height } = cells(...shape, colour, size);
  const context = prepared(canvas, width + left + 2, height + top + 2);
  context.drawImage(small, left, top, width, height);
  context.strokeRect(left, top, width, height);
  context.textAlign = "center";
  for (const [at, label] of columns) context.fillText(label, left + (at + 0.5) * size[0], top - 4);
  context.textAlign = "right";
  for (const [at, label] of rows) context.fillText(label, left - 3, top + (at + 0.5) * size[1] + 3);
  for (const i of marked) {
    const [row, column] = [Math.floor(i / shape[1]), i % shape[1]];
    context.strokeRect(left + column * size[0] + 0.5, top + row * size[1] + 0.5,
      size[0] - 1, size[1] - 1);
  }
}

/** Every n-th number, as labels. */
function spaced(count, apart) {
  return Array.from({ length: Math.ceil(count / apart) }, (_, i) => [i * apart, i * apart]);
}
