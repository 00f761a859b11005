import { ARC_TANGENTS, SERIES } from "./constants.ts";

/**
 * Constant tables that generated code reads, in the page below the vcpu areas. Every vcpu writes the same bytes when it is
 * made, so it does not matter who comes first.
 */
export const Tables = {
  /** AES: S-box, inverse S-box (256 bytes each), then the column tables of encryption and decryption (256 words each). */
  sbox: 0x1000,
  inverseSbox: 0x1100,
  encrypt: 0x1200,
  decrypt: 0x1600,
  /** Series and arc tangents for the x87 unit, 16 bytes each. */
  exponential: 0x2000,
  sine: 0x2200,
  cosine: 0x2300,
  inverseTangent: 0x2400,
  arcTangents: 0x2600,
} as const;

/** Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1. */
function times(a: number, b: number): number {
  let product = 0;
  for (let x = a, y = b; y; y >>= 1) {
    if (y & 1) product ^= x;
    x = (x << 1) ^ (x & 0x80 ? 0x11b : 0);
  }
  return product;
}

function substitution(x: number): number {
  // The inverse is x^254; then the affine map of FIPS 197, section 5.1.1.
  let inverse = 1;
  for (let k = 0; k < 254; k++) inverse = times(inverse, x);
  let result = 0x63;
  for (let k = 0; k < 5; k++) result ^= ((inverse << k) | (inverse >> (8 - k))) & 0xff;
  return result;
}

export function writeTables(memory: WebAssembly.Memory): void {
  made ??= makeTables();
  new Uint8Array(memory.buffer).set(made, FIRST);
}

const [FIRST, END] = [Tables.sbox, 0x3000];
/** The bytes from `FIRST` on; a thread's second vcpu need not make them again. */
let made: Uint8Array | undefined;

function makeTables(): Uint8Array {
  const buffer = new ArrayBuffer(END);
  const bytes = new Uint8Array(buffer);
  const words = new Uint32Array(buffer);
  for (let x = 0; x < 256; x++) {
    const s = substitution(x);
    bytes[Tables.sbox + x] = s;
    bytes[Tables.inverseSbox + s] = x;
    const column = (value: number, factors: readonly number[]) =>
      factors.reduce((sum, factor, row) => sum | (times(value, factor) << (row * 8)), 0) >>> 0;
    words[(Tables.encrypt >>> 2) + x] = column(s, [2, 1, 1, 3]);
    words[(Tables.decrypt >>> 2) + s] = column(x, [14, 9, 13, 11]);
  }
  writeWide(buffer, Tables.exponential, SERIES.exponential);
  writeWide(buffer, Tables.sine, SERIES.sine);
  writeWide(buffer, Tables.cosine, SERIES.cosine);
  writeWide(buffer, Tables.inverseTangent, SERIES.inverseTangent);
  writeWide(buffer, Tables.arcTangents, ARC_TANGENTS);
  return bytes.subarray(FIRST);
}

function writeWide(buffer: ArrayBuffer, at: number, numbers: readonly bigint[]): void {
  const view = new DataView(buffer);
  numbers.forEach((n, k) => {
    view.setBigUint64(at + k * 16, BigInt.asUintN(64, n), true);
    view.setBigUint64(at + k * 16 + 8, n >> 64n, true);
  });
}
