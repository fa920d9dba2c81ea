// Colours of matrices: zero is the colour of the page, so that both themes read alike.

const BLUES = { light: ["#92c5de", "#4393c3", "#2166ac", "#053061"] };
BLUES.dark = ["#1f4f7d", "#2f7dbd", "#6db3e2", "#cfe6f7"];
const REDS = { light: ["#f4a582", "#d6604d", "#b2182b", "#67001f"] };
REDS.dark = ["#7d2a24", "#c04a35", "#ee8d68", "#fbdcc8"];
const PAGE = { light: "#ffffff", dark: "#17181a" };
const INK = { light: "#333333", dark: "#e4e4e0" };

const systemDark = matchMedia("(prefers-color-scheme: dark)");

/** light or dark: what the reader chose, or what the system prefers. */
function theme() {
  const chosen = document.documentElement.dataset.theme;
  return chosen || (systemDark.matches ? "dark" : "light");
}

/** [r, g, b] of #rrggbb. */
function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

const ramps = new Map(); // stops → their 256 colours

/** A pixel of an image: red in the lowest byte, opaque. */
function asPixel([r, g, b]) {
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
}

/** 256 colours from the first stop to the last, as pixels. */
function ramp(stops) {
  const key = stops.join();
  if (!ramps.has(key)) ramps.set(key, Uint32Array.from(between256(stops.map(rgb)), asPixel));
  return ramps.get(key);
}

function between256(points) {
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (points.length - 1);
    const low = Math.min(Math.floor(at), points.length - 2);
    return points[low].map((c, k) => Math.round(c + (points[low + 1][k] - c) * (at - low)));
  });
}

/** Colour of a signed value: blue below zero, red above, full at the limit. */
function diverging(limit) {
  const page = PAGE[theme()];
  const below = ramp([page, ...BLUES[theme()]]);
  const above = ramp([page, ...REDS[theme()]]);
  return (value) => {
    const share = Math.min(Math.abs(value) / limit, 1);
    return (value < 0 ? below : above)[Math.round(share * 255)];
  };
}

/** Colour of a share between 0 and 1: from the page to the colour. */
function shade(hex) {
  const colours = ramp([PAGE[theme()], hex]);
  return (value) => colours[Math.round(Math.min(Math.max(value, 0), 1) * 255)];
}
