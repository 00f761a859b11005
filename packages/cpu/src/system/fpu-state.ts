import type { Decoded } from "../decode/decoded.ts";
import { State } from "../state/layout.ts";
import { GuestFault, gp, ud, Vector } from "./faults.ts";
import type { Machine } from "./machine.ts";
import { Cr0, Cr4 } from "./registers.ts";

/** Saving and restoring x87, MMX and SSE state: FXSAVE, XSAVE and their inverses, wherever and whenever; the usual case is semantics/x87/save.ts. */

export const LEGACY_BYTES = 512;
export const HEADER_BYTES = 64;
export const ST_OFFSET = 32;
export const XMM_OFFSET = 160;
export const MXCSR_MASK = 0xffff;
const MXCSR_DEFAULT = 0x1f80;
/** Components of the state, as XCR0 numbers them. */
export const X87 = 1;
export const SSE = 2;

function needState(m: Machine): void {
  if (m.cr0 & Cr0.em) throw ud();
  if (m.cr0 & Cr0.ts) throw new GuestFault(Vector.nm);
}

/** Lets `body` see `size` bytes at `va`, at most a page's, as one array, whatever pages they lie in. */
function withBytes(m: Machine, va: number, size: number, write: boolean, body: (bytes: Uint8Array) => void): void {
  const access = write ? 1 : 0;
  // Processors look at the far end first, which shows where a fault is reported.
  m.host(va + size - 1, 1, access);
  const inPage = ((va % 4096) + 4096) % 4096;
  const head = Math.min(size, 4096 - inPage);
  const at = m.host(va, head, access);
  const first = m.bytes.subarray(at, at + head);
  if (head === size) return body(first);
  // Where a kernel allocates a program's state is chance: with some, each switch comes by here.
  const rest = m.host(va + head, size - head, access);
  const second = m.bytes.subarray(rest, rest + size - head);
  const copy = new Uint8Array(size);
  copy.set(first);
  copy.set(second, head);
  body(copy);
  if (!write) return;
  first.set(copy.subarray(0, head));
  second.set(copy.subarray(head));
}

function saveX87(m: Machine, image: DataView, wide: boolean): void {
  const top = m.get32(State.fpuTop);
  image.setUint16(0, m.get32(State.fpuControl), true);
  image.setUint16(2, (m.get32(State.fpuStatus) & ~0x3800) | (top << 11), true);
  image.setUint16(4, ~m.get32(State.fpuEmpty) & 0xff, true);
  image.setUint16(6, m.get32(State.fpuOpcode), true);
  image.setInt32(8, m.get32(State.fpuIp), true);
  image.setInt32(12, wide ? m.get32(State.fpuIp + 4) : 0, true);
  image.setInt32(16, m.get32(State.fpuDp), true);
  image.setInt32(20, wide ? m.get32(State.fpuDp + 4) : 0, true);
  for (let i = 0; i < 8; i++) {
    const from = State.fpr + ((top + i) & 7) * 16;
    const to = ST_OFFSET + i * 16;
    image.setInt32(to, m.get32(from), true);
    image.setInt32(to + 4, m.get32(from + 4), true);
    image.setInt32(to + 8, m.get32(from + 8) & 0xffff, true);
    image.setInt32(to + 12, 0, true);
  }
}
function restoreX87(m: Machine, image: DataView, bytes: Uint8Array, wide: boolean): void {
  const status = image.getUint16(2, true);
  const top = (status >> 11) & 7;
  const control = (image.getUint16(0, true) & 0x1f7f) | 0x40;
  m.set32(State.fpuControl, control);
  // ES and B are not loaded: they follow from the flags and their masks.
  const pending = status & ~control & 0x3f ? 0x8080 : 0;
  m.set32(State.fpuStatus, (status & ~(0x3800 | 0x8080)) | pending);
  m.set32(State.fpuTop, top);
  m.set32(State.fpuEmpty, ~bytes[4] & 0xff);
  m.set32(State.fpuOpcode, image.getUint16(6, true) & 0x7ff);
  m.setPair(State.fpuIp, image.getInt32(8, true), wide ? image.getInt32(12, true) : 0);
  m.setPair(State.fpuDp, image.getInt32(16, true), wide ? image.getInt32(20, true) : 0);
  for (let i = 0; i < 8; i++) {
    const to = m.vb + State.fpr + ((top + i) & 7) * 16;
    m.bytes.set(bytes.subarray(ST_OFFSET + i * 16, ST_OFFSET + i * 16 + 10), to);
  }
}
export function initX87(m: Machine): void {
  m.set32(State.fpuControl, 0x37f);
  m.set32(State.fpuStatus, 0);
  m.set32(State.fpuTop, 0);
  m.set32(State.fpuEmpty, 0xff);
  m.set32(State.fpuOpcode, 0);
  m.setPair(State.fpuIp, 0, 0);
  m.setPair(State.fpuDp, 0, 0);
}
const xmmCount = (m: Machine) => (m.is64 ? 16 : 8);
function saveXmm(m: Machine, bytes: Uint8Array): void {
  const from = m.vb + State.xmm;
  bytes.set(m.bytes.subarray(from, from + 16 * xmmCount(m)), XMM_OFFSET);
}
function restoreXmm(m: Machine, bytes: Uint8Array): void {
  m.bytes.set(bytes.subarray(XMM_OFFSET, XMM_OFFSET + 16 * xmmCount(m)), m.vb + State.xmm);
}
const viewOf = (b: Uint8Array) => new DataView(b.buffer, b.byteOffset, b.length);

export function fxsave(m: Machine, d: Decoded): void {
  needState(m);
  const va = m.addressToWrite(d);
  if (va & 15) throw gp();
  withBytes(m, va, LEGACY_BYTES, true, (bytes) => {
    const image = viewOf(bytes);
    saveX87(m, image, d.rexW);
    image.setInt32(24, m.get32(State.mxcsr), true);
    image.setInt32(28, MXCSR_MASK, true);
    if (m.cr4 & Cr4.osfxsr) saveXmm(m, bytes);
  });
}
export function fxrstor(m: Machine, d: Decoded): void {
  needState(m);
  const va = m.address(d);
  if (va & 15) throw gp();
  withBytes(m, va, LEGACY_BYTES, false, (bytes) => {
    const image = viewOf(bytes);
    const mxcsr = image.getInt32(24, true);
    if (mxcsr & ~MXCSR_MASK) throw gp();
    restoreX87(m, image, bytes, d.rexW);
    m.set32(State.mxcsr, mxcsr);
    if (m.cr4 & Cr4.osfxsr) restoreXmm(m, bytes);
  });
}

/** Components asked for and enabled. */
function requested(m: Machine, d: Decoded, writes: boolean): { va: number; mask: number } {
  if (!(m.cr4 & Cr4.osxsave)) throw ud();
  if (m.cr0 & Cr0.ts) throw new GuestFault(Vector.nm);
  const va = writes ? m.addressToWrite(d) : m.address(d);
  if (va & 63) throw gp();
  return { va, mask: m.gprLo(0) & m.get32(State.xcr0) };
}
export function xsave(m: Machine, d: Decoded): void {
  const { va, mask } = requested(m, d, true);
  withBytes(m, va, LEGACY_BYTES + HEADER_BYTES, true, (bytes) => {
    const image = viewOf(bytes);
    if (mask & X87) saveX87(m, image, d.rexW);
    if (mask & SSE) {
      image.setInt32(24, m.get32(State.mxcsr), true);
      image.setInt32(28, MXCSR_MASK, true);
      saveXmm(m, bytes);
    }
    image.setInt32(512, (image.getInt32(512, true) & ~mask) | mask, true);
  });
}
export function xrstor(m: Machine, d: Decoded): void {
  const { va, mask } = requested(m, d, false);
  withBytes(m, va, LEGACY_BYTES + HEADER_BYTES, false, (bytes) => {
    const image = viewOf(bytes);
    const present = image.getInt32(512, true);
    if (image.getInt32(516, true) || present & ~m.get32(State.xcr0)) throw gp();
    for (let at = 520; at < 536; at += 4) if (image.getInt32(at, true)) throw gp();
    const mxcsr = image.getInt32(24, true);
    if (mask & SSE && mxcsr & ~MXCSR_MASK) throw gp();
    if (mask & X87) {
      if (present & X87) restoreX87(m, image, bytes, d.rexW);
      else {
        initX87(m);
        m.bytes.fill(0, m.vb + State.fpr, m.vb + State.fpr + 128);
      }
    }
    if (mask & SSE) {
      m.set32(State.mxcsr, mxcsr);
      if (present & SSE) restoreXmm(m, bytes);
      else m.bytes.fill(0, m.vb + State.xmm, m.vb + State.xmm + 16 * xmmCount(m));
    }
  });
}

/** The whole state as a 512-byte image in the 64-bit format. */
export function saveFxImage(m: Machine): Uint8Array {
  const bytes = new Uint8Array(LEGACY_BYTES);
  const image = viewOf(bytes);
  saveX87(m, image, true);
  image.setInt32(24, m.get32(State.mxcsr), true);
  bytes.set(m.bytes.subarray(m.vb + State.xmm, m.vb + State.xmm + 256), XMM_OFFSET);
  return bytes;
}
export function loadFxImage(m: Machine, bytes: Uint8Array): void {
  const image = viewOf(bytes);
  restoreX87(m, image, bytes, true);
  m.set32(State.mxcsr, image.getInt32(24, true));
  m.bytes.set(bytes.subarray(XMM_OFFSET, XMM_OFFSET + 256), m.vb + State.xmm);
}

export function resetFpu(m: Machine): void {
  initX87(m);
  m.set32(State.fpuControl, 0x40);
  m.set32(State.mxcsr, MXCSR_DEFAULT);
  m.set32(State.xcr0, 1);
}
