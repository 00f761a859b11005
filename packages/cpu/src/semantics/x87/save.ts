/**
 * FXSAVE, XSAVE and their inverses, as a 64-bit kernel uses them at each switch of programs: on one page that can be used directly.
 * All else is left to the host program (system/fpu-state.ts).
 */
import { type Address, type AddressType, type I32, i32, i64 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import {
  fxrstor,
  fxsave,
  HEADER_BYTES,
  LEGACY_BYTES,
  MXCSR_MASK,
  SSE,
  ST_OFFSET,
  X87,
  XMM_OFFSET,
  xrstor,
  xsave,
} from "../../system/fpu-state.ts";
import { Cr0, Cr4 } from "../../system/registers.ts";
import { define } from "../define.ts";
import { defineHelper, type HelperBody } from "../helpers.ts";
import type { Instruction } from "../instruction.ts";
import { unless } from "../integer/privilege.ts";
import type { Ops } from "../ops.ts";

/** Offsets in an image. */
const Image = {
  control: 0,
  status: 2,
  tags: 4,
  opcode: 6,
  ip: 8,
  dp: 16,
  mxcsr: 24,
  mxcsrMask: 28,
  header: 512,
} as const;
const TOP_MASK = 7 << 11;
/** ES and B: an exception that is not masked is pending. */
const PENDING = 0x8080;

/** Address of the register that is ST(n). */
function st(h: HelperBody, top: I32, n: number): I32 {
  return h.f.let(top.add(n).and(7).shl(4).add(h.vb));
}

/** (host, 1 for pointers of 64 bits) */
defineHelper("saveX87", ["address", "i32"], undefined, (h) => {
  const { f } = h;
  const [host, wide] = [h.param<AddressType>(0), h.param<"i32">(1)];
  const top = h.load32(State.fpuTop);
  f.store("i32.store16", host, h.load32(State.fpuControl), Image.control);
  f.store("i32.store16", host, h.load32(State.fpuStatus).and(~TOP_MASK).or(top.shl(11)), Image.status);
  f.store("i32.store16", host, h.load32(State.fpuEmpty).xor(-1).and(0xff), Image.tags);
  f.store("i32.store16", host, h.load32(State.fpuOpcode), Image.opcode);
  const mask = f.let(f.select(wide, i64(-1), i64(0xffffffff)));
  f.store("i64.store", host, h.load64(State.fpuIp).and(mask), Image.ip);
  f.store("i64.store", host, h.load64(State.fpuDp).and(mask), Image.dp);
  for (let n = 0; n < 8; n++) {
    const from = st(h, top, n);
    f.store("i64.store", host, f.load<"i64">("i64.load", from, State.fpr), ST_OFFSET + n * 16);
    f.store("i64.store", host, f.load<"i64">("i64.load16_u", from, State.fpr + 8), ST_OFFSET + n * 16 + 8);
  }
});

/** (host, 1 for pointers of 64 bits) */
defineHelper("restoreX87", ["address", "i32"], undefined, (h) => {
  const { f } = h;
  const [host, wide] = [h.param<AddressType>(0), h.param<"i32">(1)];
  const half = (offset: number): I32 => f.let(f.load<"i32">("i32.load16_u", host, offset));
  const status = half(Image.status);
  const control = f.let(half(Image.control).and(0x1f7f).or(0x40));
  const top = f.let(status.shrU(11).and(7));
  h.store32(State.fpuControl, control);
  // ES and B are not loaded: they follow from the flags and their masks.
  const pending = f.select(status.and(control.xor(-1)).and(0x3f), i32(PENDING), i32(0));
  h.store32(State.fpuStatus, status.and(~(TOP_MASK | PENDING)).or(pending));
  h.store32(State.fpuTop, top);
  h.store32(State.fpuEmpty, half(Image.tags).xor(-1).and(0xff));
  h.store32(State.fpuOpcode, half(Image.opcode).and(0x7ff));
  const mask = f.let(f.select(wide, i64(-1), i64(0xffffffff)));
  h.store64(State.fpuIp, f.load<"i64">("i64.load", host, Image.ip).and(mask));
  h.store64(State.fpuDp, f.load<"i64">("i64.load", host, Image.dp).and(mask));
  for (let n = 0; n < 8; n++) {
    const to = st(h, top, n);
    f.store("i64.store", to, f.load<"i64">("i64.load", host, ST_OFFSET + n * 16), State.fpr);
    f.store("i32.store16", to, half(ST_OFFSET + n * 16 + 8), State.fpr + 8);
  }
});

/** As after FNINIT, with all registers zero. */
defineHelper("clearX87", [], undefined, (h) => {
  const { f } = h;
  h.store32(State.fpuControl, i32(0x37f));
  for (const field of [State.fpuStatus, State.fpuTop, State.fpuOpcode]) h.store32(field, i32(0));
  h.store32(State.fpuEmpty, i32(0xff));
  for (const field of [State.fpuIp, State.fpuDp]) h.store64(field, i64(0));
  f.memoryFill(h.vb.add(State.fpr), i32(0), i32(8 * 16));
});

const XMM_BYTES = 16 * 16;

/**
 * Host address of an image of `bytes` that may be read or written at once; control leaves to the host program if there is none.
 * @param alignment  that is asked of it
 */
function imageOf(o: Ops, i: Instruction, bytes: number, alignment: number, kind: "read" | "write"): Address {
  const { f } = o;
  const va = f.let(i.address());
  const low = f.let(va.wrap().and(4095));
  const page = o.directHost(va, kind);
  const matches = f.let(page.matches);
  unless(
    o,
    matches
      .eqz()
      .or(low.and(alignment - 1))
      .or(low.add(bytes).gtU(4096)),
  );
  return f.let(page.host);
}
const wide = (i: Instruction): I32 => i32(i.width === 8 ? 1 : 0);

function saveSse(o: Ops, host: Address): void {
  const { f } = o;
  f.store("i32.store", host, o.state32(State.mxcsr), Image.mxcsr);
  f.store("i32.store", host, i32(MXCSR_MASK), Image.mxcsrMask);
  f.memoryCopy(host.add(XMM_OFFSET), o.vb.add(State.xmm), i32(XMM_BYTES));
}
function restoreXmm(o: Ops, host: Address): void {
  o.f.memoryCopy(o.vb.add(State.xmm), host.add(XMM_OFFSET), i32(XMM_BYTES));
  o.xmmChanged();
}
/** Without FXSR there is an older format of the image; with EM or TS set the instruction faults. */
function needFxsr(o: Ops): void {
  const off = o.state32(State.cr4).and(Cr4.osfxsr).eqz();
  unless(o, off.or(o.state32(State.cr0).and(Cr0.em | Cr0.ts)));
}

define(
  "FXSAVE",
  "np 0f ae /0 M",
  (o, i) => {
    if (!i.mode64) return o.leaveToHost();
    needFxsr(o);
    const host = imageOf(o, i, LEGACY_BYTES, 16, "write");
    o.f.callVoid(o.helpers.named("saveX87"), o.vb, host, wide(i));
    saveSse(o, host);
  },
  { system: fxsave },
);
define(
  "FXRSTOR",
  "np 0f ae /1 M",
  (o, i) => {
    const { f } = o;
    if (!i.mode64) return o.leaveToHost();
    needFxsr(o);
    const host = imageOf(o, i, LEGACY_BYTES, 16, "read");
    const mxcsr = f.let(f.load<"i32">("i32.load", host, Image.mxcsr));
    unless(o, mxcsr.and(~MXCSR_MASK));
    f.callVoid(o.helpers.named("restoreX87"), o.vb, host, wide(i));
    o.setState32(State.mxcsr, mxcsr);
    restoreXmm(o, host);
  },
  { system: fxrstor },
);

/** Components asked for and enabled. */
function requested(o: Ops): I32 {
  const off = o.state32(State.cr4).and(Cr4.osxsave).eqz();
  unless(o, off.or(o.state32(State.cr0).and(Cr0.ts)));
  return o.f.let(o.readGpr(0, 4).wrap().and(o.state32(State.xcr0)));
}

define(
  "XSAVE",
  "np 0f ae /4 M",
  (o, i) => {
    const { f } = o;
    if (!i.mode64) return o.leaveToHost();
    const mask = requested(o);
    const host = imageOf(o, i, LEGACY_BYTES + HEADER_BYTES, 64, "write");
    f.if(mask.and(X87), () => f.callVoid(o.helpers.named("saveX87"), o.vb, host, wide(i)));
    f.if(mask.and(SSE), () => saveSse(o, host));
    f.store("i32.store", host, f.load<"i32">("i32.load", host, Image.header).or(mask), Image.header);
  },
  { system: xsave },
);
define(
  "XRSTOR",
  "np 0f ae /5 M",
  (o, i) => {
    const { f } = o;
    if (!i.mode64) return o.leaveToHost();
    const mask = requested(o);
    const host = imageOf(o, i, LEGACY_BYTES + HEADER_BYTES, 64, "read");
    const word = (offset: number): I32 => f.load<"i32">("i32.load", host, Image.header + offset);
    const present = f.let(word(0));
    const beyond = [4, 8, 12, 16, 20].map(word).reduce((a, b) => a.or(b));
    const mxcsr = f.let(f.load<"i32">("i32.load", host, Image.mxcsr));
    const strange = f.select(mask.and(SSE), mxcsr.and(~MXCSR_MASK), i32(0));
    unless(o, beyond.or(present.and(o.state32(State.xcr0).xor(-1))).or(strange));
    f.if(mask.and(X87), () =>
      f.if(
        present.and(X87),
        () => f.callVoid(o.helpers.named("restoreX87"), o.vb, host, wide(i)),
        () => f.callVoid(o.helpers.named("clearX87"), o.vb),
      ),
    );
    f.if(mask.and(SSE), () => {
      o.setState32(State.mxcsr, mxcsr);
      f.if(
        present.and(SSE),
        () => restoreXmm(o, host),
        () => f.memoryFill(o.vb.add(State.xmm), i32(0), i32(XMM_BYTES)),
      );
      o.xmmChanged();
    });
  },
  { system: xrstor },
);
