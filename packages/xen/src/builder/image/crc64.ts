/** CRC-64/XZ (ECMA-182, reflected), kept as two 32-bit halves. */

const POLYNOMIAL_HI = 0xc96c5795;
const POLYNOMIAL_LO = 0xd7870f42;

const tableHi = new Uint32Array(256);
const tableLo = new Uint32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let hi = 0;
  let lo = byte;
  for (let bit = 0; bit < 8; bit++) {
    const carry = lo & 1;
    lo = (lo >>> 1) | (hi << 31);
    hi >>>= 1;
    if (carry) {
      hi ^= POLYNOMIAL_HI;
      lo ^= POLYNOMIAL_LO;
    }
  }
  tableHi[byte] = hi;
  tableLo[byte] = lo;
}

/** @returns the checksum as [low, high], both unsigned */
export function crc64(bytes: Uint8Array): readonly [lo: number, hi: number] {
  let lo = -1;
  let hi = -1;
  for (let i = 0; i < bytes.length; i++) {
    const index = (lo ^ bytes[i]!) & 0xff;
    lo = ((lo >>> 8) | (hi << 24)) ^ tableLo[index]!;
    hi = (hi >>> 8) ^ tableHi[index]!;
  }
  return [~lo >>> 0, ~hi >>> 0];
}
