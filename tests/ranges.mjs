// Byte ranges for property tests: seeded, so that a failure can be replayed.

/** mulberry32. @param {number} seed @returns {() => number} in [0, 1) */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The seed of this run: SEED, or a random one. */
export const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 32));

/**
 * A `Range` field and the bytes it selects in a file of `size` bytes; `undefined`: none (416).
 * @returns {{field: string, bytes: [number, number] | undefined}}
 */
export function anyRange(next, size) {
  const edges = [
    0,
    1,
    262_143,
    262_144,
    262_145,
    4_194_303,
    4_194_304,
    4_194_305,
    size - 1,
    size,
    size + 1,
    size + 1e9,
  ];
  const position = () =>
    next() < 0.5 ? edges[Math.floor(next() * edges.length)] : Math.floor(next() * size);
  // Most ranges are short; long ones take time and prove little more.
  const length = 1 + Math.floor(next() * (next() < 0.9 ? 70_000 : 9_000_000));
  const first = position();
  switch (Math.floor(next() * 3)) {
    case 0: {
      const last = first + length - 1;
      return {
        field: `bytes=${first}-${last}`,
        bytes: first < size ? [first, Math.min(last + 1, size)] : undefined,
      };
    }
    case 1: {
      const late = Math.max(first, size - length);
      return { field: `bytes=${late}-`, bytes: late < size ? [late, size] : undefined };
    }
    default: {
      const suffix = next() < 0.05 ? 0 : next() < 0.05 ? size + length : length;
      return {
        field: `bytes=-${suffix}`,
        bytes: suffix > 0 ? [Math.max(0, size - suffix), size] : undefined,
      };
    }
  }
}
