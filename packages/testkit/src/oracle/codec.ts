/**
 * Binary forms of cases and results, little-endian, records padded to 16 bytes.
 *
 * ```
 * batch   0 u32 magic   4 u32 case count   8 u64 bytes of all that follows the header   64 background   64+65536 cases
 * case    0 u32 record bytes   4 u16 code bytes   6 u16 patches   8 u32 code offset   12 u32 bit 0: has an FX image, 1: 32-bit
 *         16 u64 rflags   24 u64[16] gprs   160 FX image (512, if there)   code, padded to 8
 *         patches: u32 offset, u32 bytes, contents padded to 8
 * result  0 u32 record bytes   4 u8 kind   5 u8 vector   6 u8 FX image follows   8 u32 error code   12 u32 chunks
 *         16 u64 cr2   24 u64 rip   32 u64 rflags   40 u64[16] gprs   168 FX image (416, if changed)
 *         chunks: u32 offset, u32 64, 64 bytes
 * ```
 */

import {
  background,
  CHUNK_BYTES,
  CODE_BYTES,
  defaultFx,
  FX_BYTES,
  type MemoryPatch,
  type ResultKind,
  RFLAGS_MASK,
  SCRATCH_BYTES,
  type TestCase,
  type TestResult,
} from "./case.ts";

export const BATCH_MAGIC = 0x31_43_54_58;
export const BATCH_HEADER_BYTES = 64;
export const CASE_FIXED_BYTES = 160;
export const RESULT_FIXED_BYTES = 168;
/** Part of the FX image that results carry: through XMM15. */
export const FX_RESULT_BYTES = 416;
export const KINDS: readonly ResultKind[] = ["trap", "timeout", "syscall", "lost"];
/** Bits that exist in every CPU's MXCSR; others would make FXRSTOR fault. */
const MXCSR_MASK = 0xffff;

/** The same bytes as a Uint8Array proper: `slice` of a Buffer would share them. */
const plainView = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const pad = (n: number, to: number): number => (n + to - 1) & -to;

function caseBytes(c: TestCase): number {
  let n = CASE_FIXED_BYTES + (c.fx ? FX_BYTES : 0) + pad(c.code.length, 8);
  for (const p of c.memory ?? []) n += 8 + pad(p.bytes.length, 8);
  return pad(n, 16);
}

/** Encodes cases as one batch. @throws if code or a patch lies outside its region */
export function encodeBatch(cases: readonly TestCase[]): Uint8Array {
  let total = SCRATCH_BYTES;
  for (const c of cases) total += caseBytes(c);
  const out = new Uint8Array(BATCH_HEADER_BYTES + total);
  const view = new DataView(out.buffer);
  view.setUint32(0, BATCH_MAGIC, true);
  view.setUint32(4, cases.length, true);
  view.setUint32(8, total, true);
  out.set(background(), BATCH_HEADER_BYTES);
  let at = BATCH_HEADER_BYTES + SCRATCH_BYTES;
  cases.forEach((c, i) => {
    at = encodeCase(out, view, at, c, i);
  });
  return out;
}

function encodeCase(out: Uint8Array, view: DataView, at: number, c: TestCase, index: number): number {
  const codeOffset = c.codeOffset ?? 0;
  if (codeOffset < 0 || codeOffset + c.code.length > CODE_BYTES)
    throw new Error(`case ${index}: code outside its region`);
  const patches = c.memory ?? [];
  const bytes = caseBytes(c);
  view.setUint32(at, bytes, true);
  view.setUint16(at + 4, c.code.length, true);
  view.setUint16(at + 6, patches.length, true);
  view.setUint32(at + 8, codeOffset, true);
  view.setUint32(at + 12, (c.fx ? 1 : 0) | (c.bits === 32 ? 2 : 0), true);
  view.setUint32(at + 16, (c.rflags & RFLAGS_MASK) | 0x202, true);
  out.set(new Uint8Array(c.gprs.buffer, c.gprs.byteOffset, 128), at + 24);
  let p = at + CASE_FIXED_BYTES;
  if (c.fx) {
    out.set(c.fx, p);
    view.setUint32(p + 24, view.getUint32(p + 24, true) & MXCSR_MASK, true);
    p += FX_BYTES;
  }
  out.set(c.code, p);
  p += pad(c.code.length, 8);
  for (const patch of patches) {
    if (patch.offset < 0 || patch.offset + patch.bytes.length > SCRATCH_BYTES) {
      throw new Error(`case ${index}: memory patch at ${patch.offset} outside scratch memory`);
    }
    view.setUint32(p, patch.offset, true);
    view.setUint32(p + 4, patch.bytes.length, true);
    out.set(patch.bytes, p + 8);
    p += 8 + pad(patch.bytes.length, 8);
  }
  return at + bytes;
}

/** Decodes the cases of a batch; `ignore` is not part of the binary form. @throws on a malformed batch */
export function decodeBatch(bytes: Uint8Array): TestCase[] {
  const batch = plainView(bytes);
  const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength);
  if (view.getUint32(0, true) !== BATCH_MAGIC) throw new Error("batch: wrong magic number");
  const cases: TestCase[] = [];
  let at = BATCH_HEADER_BYTES + SCRATCH_BYTES;
  for (let i = view.getUint32(4, true); i > 0; i--) {
    const codeBytes = view.getUint16(at + 4, true);
    const hasFx = (view.getUint32(at + 12, true) & 1) !== 0;
    let p = at + CASE_FIXED_BYTES;
    const fx = hasFx ? batch.slice(p, p + FX_BYTES) : undefined;
    if (hasFx) p += FX_BYTES;
    const code = batch.slice(p, p + codeBytes);
    p += pad(codeBytes, 8);
    const memory: MemoryPatch[] = [];
    for (let n = view.getUint16(at + 6, true); n > 0; n--) {
      const length = view.getUint32(p + 4, true);
      memory.push({ offset: view.getUint32(p, true), bytes: batch.slice(p + 8, p + 8 + length) });
      p += 8 + pad(length, 8);
    }
    cases.push({
      ...((view.getUint32(at + 12, true) & 2) !== 0 && { bits: 32 as const }),
      gprs: new BigUint64Array(batch.slice(at + 24, at + 152).buffer),
      rflags: view.getUint32(at + 16, true) & RFLAGS_MASK,
      ...(fx && { fx }),
      code,
      codeOffset: view.getUint32(at + 8, true),
      memory,
    });
    at += view.getUint32(at, true);
  }
  return cases;
}

/** Zeroes what results do not carry: FOP, FIP, FDP, MXCSR_MASK, and all above byte 415. Changes the image in place. */
export function normaliseFx(fx: Uint8Array): Uint8Array {
  return fx.fill(0, 6, 24).fill(0, 28, 32).fill(0, FX_RESULT_BYTES);
}

/** Encodes results in the form that `decodeResults` reads; `cases` tell whether an FX image changed. */
export function encodeResults(cases: readonly TestCase[], results: readonly TestResult[]): Uint8Array {
  const parts: Uint8Array[] = [];
  results.forEach((r, i) => {
    const start = normaliseFx((cases[i].fx ?? defaultFx()).slice());
    const fxChanged = Buffer.compare(start, r.fx) !== 0;
    const bytes = pad(RESULT_FIXED_BYTES + (fxChanged ? FX_RESULT_BYTES : 0) + r.memory.length * (8 + CHUNK_BYTES), 16);
    const out = new Uint8Array(bytes);
    const view = new DataView(out.buffer);
    view.setUint32(0, bytes, true);
    out.set([KINDS.indexOf(r.kind), r.vector, fxChanged ? 1 : 0], 4);
    view.setUint32(8, r.errorCode, true);
    view.setUint32(12, r.memory.length, true);
    view.setBigUint64(16, r.cr2, true);
    view.setBigUint64(24, r.rip, true);
    view.setUint32(32, r.rflags, true);
    out.set(new Uint8Array(r.gprs.buffer, r.gprs.byteOffset, 128), 40);
    if (fxChanged) out.set(r.fx.subarray(0, FX_RESULT_BYTES), RESULT_FIXED_BYTES);
    let p = RESULT_FIXED_BYTES + (fxChanged ? FX_RESULT_BYTES : 0);
    for (const chunk of r.memory) {
      view.setUint32(p, chunk.offset, true);
      view.setUint32(p + 4, CHUNK_BYTES, true);
      out.set(chunk.bytes, p + 8);
      p += 8 + CHUNK_BYTES;
    }
    parts.push(out);
  });
  return Buffer.concat(parts);
}

/**
 * Decodes as many whole results as there are, in the order of the cases.
 * @returns at most `cases.length` results; fewer if the bytes end early
 */
export function decodeResults(encoded: Uint8Array, cases: readonly TestCase[]): TestResult[] {
  const bytes = plainView(encoded);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const untouched = normaliseFx(defaultFx());
  const results: TestResult[] = [];
  let at = 0;
  while (results.length < cases.length && at + RESULT_FIXED_BYTES <= bytes.length) {
    const recordBytes = view.getUint32(at, true);
    if (recordBytes < RESULT_FIXED_BYTES || at + recordBytes > bytes.length) break;
    const kind = KINDS[bytes[at + 4]];
    const vector = kind === "trap" ? bytes[at + 5] : 0;
    let fx = untouched;
    let p = at + RESULT_FIXED_BYTES;
    if (bytes[at + 6] === 1) {
      fx = new Uint8Array(FX_BYTES);
      fx.set(bytes.subarray(p, p + FX_RESULT_BYTES));
      normaliseFx(fx);
      p += FX_RESULT_BYTES;
    } else {
      const given = cases[results.length].fx;
      if (given) fx = normaliseFx(given.slice());
    }
    const memory: MemoryPatch[] = [];
    for (let n = view.getUint32(at + 12, true); n > 0; n--) {
      memory.push({ offset: view.getUint32(p, true), bytes: bytes.slice(p + 8, p + 8 + CHUNK_BYTES) });
      p += 8 + CHUNK_BYTES;
    }
    results.push({
      kind,
      vector,
      errorCode: vector === 14 || vector === 13 || vector === 12 ? view.getUint32(at + 8, true) : 0,
      cr2: vector === 14 ? view.getBigUint64(at + 16, true) : 0n,
      rip: view.getBigUint64(at + 24, true),
      rflags: view.getUint32(at + 32, true) & RFLAGS_MASK,
      gprs: new BigUint64Array(bytes.slice(at + 40, at + 168).buffer),
      fx,
      memory,
    });
    at += recordBytes;
  }
  return results;
}
