// Arrays of the data: base64 of little-endian numbers, with their type and shape.

/** The value of each of the 65,536 half-precision numbers. */
const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
});

/** {shape, values} of a packed array; values are float32, or bytes. */
function unpack(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return { shape: packed.shape, values: READERS[packed.type](bytes) };
}

/** Half precision, widened; a loop is ten times faster than Float32Array.from. */
function widened(halves) {
  const values = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) values[i] = HALVES[halves[i]];
  return values;
}

const READERS = {
  "<f2": (bytes) => widened(new Uint16Array(bytes.buffer)),
  "<f4": (bytes) => new Float32Array(bytes.buffer),
  "|u1": (bytes) => bytes,
};
