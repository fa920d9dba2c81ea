// Matrices on a canvas: one cell a value, labels around, the same colours at all steps.

const LABELS = { left: 28, top: 14 }; // room for them in pixels; names of rows may need more
const images = new WeakMap(); // canvas → what is kept between drawings

/** Draws (rows, columns) of colours, one pixel a cell, on a small canvas that is kept. */
function cells(kept, [rows, columns], colour) {
  if (!kept.small || kept.small.width !== columns || kept.small.height !== rows) {
    kept.small = new OffscreenCanvas(columns, rows);
    kept.context = kept.small.getContext("2d");
    kept.image = new ImageData(columns, rows);
    kept.pixels = new Uint32Array(kept.image.data.buffer);
  }
  for (let i = 0; i < kept.pixels.length; i++) kept.pixels[i] = colour(i);
  kept.context.putImageData(kept.image, 0, 0);
  return kept.small;
}

/** A canvas of a size in CSS pixels, sharp on dense screens; its context. */
function prepared(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.imageSmoothingEnabled = false;
  context.font = "10px DejaVu Sans, Verdana, sans-serif";
  context.fillStyle = INK[theme()];
  context.strokeStyle = context.fillStyle;
  return context;
}

/**
 * Draws a matrix with labels, which are lettered anew only when they, the size or the theme change.
 *
 * shape [rows, columns]; colour(i) → colour of cell i, row by row; size [width, height] of a cell;
 * rows and columns: [position, label]; marked: cells that are framed; left: room for the labels of
 * rows.
 */
function heatmap(canvas, matrix) {
  const { shape, colour, size, rows, columns, marked = [], left = LABELS.left } = matrix;
  if (!images.has(canvas)) images.set(canvas, {});
  const kept = images.get(canvas);
  const [width, height] = [shape[1] * size[0], shape[0] * size[1]];
  const { top } = LABELS;
  const look = [shape, size, rows, columns, theme(), devicePixelRatio].join();
  if (look !== kept.look) {
    kept.page = prepared(canvas, width + left + 2, height + top + 2);
    kept.page.strokeRect(left - 0.5, top - 0.5, width + 1, height + 1);
    letter(kept.page, size, rows, columns, left);
    kept.look = look;
  }
  kept.page.drawImage(cells(kept, shape, colour), left, top, width, height);
  for (const i of marked) {
    const [row, column] = [Math.floor(i / shape[1]), i % shape[1]];
    kept.page.strokeRect(left + column * size[0] + 0.5, top + row * size[1] + 0.5,
      size[0] - 1, size[1] - 1);
  }
}

function letter(context, size, rows, columns, left) {
  const { top } = LABELS;
  context.textAlign = "center";
  for (const [at, label] of columns) context.fillText(label, left + (at + 0.5) * size[0], top - 4);
  context.textAlign = "right";
  for (const [at, label] of rows) context.fillText(label, left - 3, top + (at + 0.5) * size[1] + 3);
}

/** Every n-th number, as labels. */
function spaced(count, apart) {
  return Array.from({ length: Math.ceil(count / apart) }, (_, i) => [i * apart, i * apart]);
}
