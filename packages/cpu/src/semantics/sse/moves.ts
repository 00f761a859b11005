import { i32, v128 } from "@xenoserver/wasm";
import { define } from "../define.ts";
import type { Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { binary128, enterMmx, high, low, needAligned, needMmx, source128, vector } from "./access.ts";
import { needSse } from "./control.ts";

/** Moves, shuffles, insertions and extractions between XMM, MMX, general registers and memory. */

// Whole registers

define("MOVUPS", [
  "np 0f 10 Vx,Wx",
  "66 0f 10 Vx,Wx",
  "np 0f 11 Wx,Vx",
  "66 0f 11 Wx,Vx",
  "f3 0f 6f Vx,Wx",
  "f3 0f 7f Wx,Vx",
  "f2 0f f0 Vx,Mx",
], (o, i) => {
  needSse(o);
  i.operands[0].writeV(i.operands[1].readV());
});
define("MOVAPS", [
  "np 0f 28 Vx,Wx",
  "66 0f 28 Vx,Wx",
  "np 0f 29 Wx,Vx",
  "66 0f 29 Wx,Vx",
  "66 0f 6f Vx,Wx",
  "66 0f 7f Wx,Vx",
  "np 0f 2b Mx,Vx",
  "66 0f 2b Mx,Vx",
  "66 0f e7 Mx,Vx",
  "66 0f38 2a Vx,Mx",
], (o, i) => {
  needSse(o);
  if (i.operands.some((operand) => operand.kind === "mem")) needAligned(o, i);
  i.operands[0].writeV(i.operands[1].readV());
});
define("MOVQ", ["np 0f 6f Pq,Qq", "np 0f 7f Qq,Pq", "np 0f e7 Mq,Pq"], (o, i) => {
  needMmx(o);
  const value = i.operands[1].read();
  if (i.operands[0].kind === "mem") {
    i.operands[0].write(value);
    enterMmx(o);
  } else {
    enterMmx(o);
    i.operands[0].write(value);
  }
});

// Scalars: a load clears the rest of the register, a register move keeps it

function scalarMove(name: string, prefix: string, size: string): void {
  define(name, [`${prefix} 0f 10 Vx,W${size}`, `${prefix} 0f 11 W${size},V${size}`], (o, i) => {
    needSse(o);
    const [dst, src] = i.operands;
    if (src.kind === "mem") dst.writeV(vector(o, src.read()));
    else if (dst.kind === "mem") dst.write(src.read());
    else o.writeLow(dst, size === "d" ? 4 : 8, src.read());
  });
}
scalarMove("MOVSS", "f3", "d");
scalarMove("MOVSD", "f2", "q");

define("MOVD", ["66 0f 6e Vx,Ey"], (o, i) => {
  needSse(o);
  i.operands[0].writeV(vector(o, i.operands[1].read()));
});
define("MOVD", ["66 0f 7e Ey,Vy"], (o, i) => {
  needSse(o);
  i.operands[0].write(i.operands[1].read());
});
define("MOVD", ["np 0f 6e Pq,Ey"], (o, i) => {
  needMmx(o);
  const value = i.operands[1].read();
  enterMmx(o);
  i.operands[0].write(value);
});
define("MOVD", ["np 0f 7e Ey,Py"], (o, i) => {
  needMmx(o);
  i.operands[0].write(i.operands[1].read());
  enterMmx(o);
});
define("MOVQ", "f3 0f 7e Vx,Wq", (o, i) => {
  needSse(o);
  i.operands[0].writeV(vector(o, i.operands[1].read()));
});
define("MOVQ", "66 0f d6 Wq,Vq", (o, i) => {
  needSse(o);
  const value = i.operands[1].read();
  if (i.operands[0].kind === "mem") i.operands[0].write(value);
  else i.operands[0].writeV(vector(o, value));
});
define("MOVQ2DQ", "f3 0f d6 Vx,Nq", (o, i) => {
  needSse(o);
  needMmx(o);
  enterMmx(o);
  i.operands[0].writeV(vector(o, i.operands[1].read()));
});
define("MOVDQ2Q", "f2 0f d6 Pq,Uq", (o, i) => {
  needSse(o);
  needMmx(o);
  enterMmx(o);
  i.operands[0].write(i.operands[1].read());
});
define("EMMS", "np 0f 77", (o) => {
  needMmx(o);
  o.emptyFpu();
});

// Halves

define("MOVLPS", ["np 0f 12 Vx,Mq", "66 0f 12 Vx,Mq"], (o, i) => {
  needSse(o);
  o.writeLow(i.operands[0], 8, i.operands[1].read());
});
define("MOVHLPS", "np 0f 12 Vx,Ux", (o, i) => {
  needSse(o);
  o.writeLow(i.operands[0], 8, high(o, i.operands[1].readV()));
});
define("MOVHPS", ["np 0f 16 Vx,Mq", "66 0f 16 Vx,Mq"], (o, i) => {
  needSse(o);
  const value = i.operands[1].read();
  i.operands[0].writeV(vector(o, low(o, i.operands[0].readV()), value));
});
define("MOVLHPS", "np 0f 16 Vx,Ux", (o, i) => {
  needSse(o);
  i.operands[0].writeV(vector(o, low(o, i.operands[0].readV()), low(o, i.operands[1].readV())));
});
define("MOVLPS store", ["np 0f 13 Mq,Vq", "66 0f 13 Mq,Vq"], (o, i) => {
  needSse(o);
  i.operands[0].write(i.operands[1].read());
});
define("MOVHPS store", ["np 0f 17 Mq,Vx", "66 0f 17 Mq,Vx"], (o, i) => {
  needSse(o);
  i.operands[0].write(high(o, i.operands[1].readV()));
});
const DUPLICATES: readonly [string, string, readonly number[]][] = [
  ["MOVSLDUP", "f3 0f 12 Vx,Wx", [0, 0, 2, 2]],
  ["MOVSHDUP", "f3 0f 16 Vx,Wx", [1, 1, 3, 3]],
];
for (const [name, encoding, picks] of DUPLICATES) {
  define(
    name,
    encoding,
    binary128((o, _a, b) =>
      o.f.shuffle(
        picks.flatMap((p) => [0, 1, 2, 3].map((k) => p * 4 + k)),
        b,
        b,
      ),
    ),
  );
}
define("MOVDDUP", "f2 0f 12 Vx,Wq", (o, i) => {
  needSse(o);
  i.operands[0].writeV(o.f.op("i64x2.splat", i.operands[1].read()));
});

// Stores that bypass caches are plain stores here

define("MOVNTI", "np 0f c3 My,Gy", (_o, i) => i.operands[0].write(i.operands[1].read()));

/** Stores the bytes whose mask byte has its top bit set, at DS:rDI. */
function maskedStore(
  o: Ops,
  i: Instruction,
  bytes: number,
  data: (k: number) => ReturnType<typeof low>,
  mask: (k: number) => ReturnType<typeof low>,
): void {
  const { f } = o;
  const offset = o.readGpr(7, i.addressSize);
  if (!i.mode64) o.checkSegment(i.segmentNumber(), offset, bytes, "write");
  const base = f.let(offset.add(i.segmentBase()));
  const at = i.mode64 ? base : f.let(base.and(o.const64(-1, 0)));
  for (let k = 0; k < bytes; k++) {
    const shift = (k & 7) * 8;
    f.if(
      mask(k >> 3)
        .shrU(shift + 7)
        .wrap()
        .and(1),
      () => o.store(f.let(at.add(k)), 1, data(k >> 3).shrU(shift)),
    );
  }
}
define("MASKMOVDQU", "66 0f f7 Vx,Ux a", (o, i) => {
  needSse(o);
  const [data, mask] = i.operands.map((operand) => operand.readV());
  const [dl, dh, ml, mh] = [low(o, data), high(o, data), low(o, mask), high(o, mask)];
  maskedStore(
    o,
    i,
    16,
    (half) => (half ? dh : dl),
    (half) => (half ? mh : ml),
  );
});
define("MASKMOVQ", "np 0f f7 Pq,Nq a", (o, i) => {
  needMmx(o);
  const [data, mask] = i.operands.map((operand) => operand.read());
  maskedStore(
    o,
    i,
    8,
    () => data,
    () => mask,
  );
  enterMmx(o);
});

// Masks of sign bits

define("MOVMSKPS", "np 0f 50 Gy,Ux", (o, i) => {
  needSse(o);
  i.operands[0].write(o.f.op<"i32">("i32x4.bitmask", i.operands[1].readV()).extU());
});
define("MOVMSKPD", "66 0f 50 Gy,Ux", (o, i) => {
  needSse(o);
  i.operands[0].write(o.f.op<"i32">("i64x2.bitmask", i.operands[1].readV()).extU());
});
define("PMOVMSKB", "66 0f d7 Gy,Ux", (o, i) => {
  needSse(o);
  i.operands[0].write(o.f.op<"i32">("i8x16.bitmask", i.operands[1].readV()).extU());
});
define("PMOVMSKB", "np 0f d7 Gy,Nq", (o, i) => {
  needMmx(o);
  enterMmx(o);
  i.operands[0].write(o.f.op<"i32">("i8x16.bitmask", vector(o, i.operands[1].read())).and(0xff).extU());
});

// Bitwise operations under their floating-point names

const LOGIC: readonly [
  string,
  string,
  (o: Ops, a: ReturnType<typeof vector>, b: ReturnType<typeof vector>) => ReturnType<typeof vector>,
][] = [
  ["ANDPS", "54", (o, a, b) => o.f.op("v128.and", a, b)],
  ["ANDNPS", "55", (o, a, b) => o.f.op("v128.andnot", b, a)],
  ["ORPS", "56", (o, a, b) => o.f.op("v128.or", a, b)],
  ["XORPS", "57", (o, a, b) => o.f.op("v128.xor", a, b)],
];
for (const [name, opcode, compute] of LOGIC)
  define(name, [`np 0f ${opcode} Vx,Wx`, `66 0f ${opcode} Vx,Wx`], binary128(compute));

// Shuffles by an immediate: byte indices are computed from its two-bit fields

/** Element indices 0–3 from the immediate, spread over the bytes of 32-bit elements. */
function fieldIndex(o: Ops, imm: ReturnType<Instruction["imm"]>, size: 2 | 4): ReturnType<typeof vector> {
  const { f } = o;
  const field = (k: number) => imm.shrU(2 * k).and(3);
  let packedFields = field(0);
  for (let k = 1; k < 4; k++) packedFields = packedFields.or(field(k).shl(8 * k));
  const fields = f.let(f.op<"v128">("i32x4.splat", packedFields));
  const spread = f.op<"v128">(
    "i8x16.swizzle",
    fields,
    v128(Uint8Array.from({ length: 16 }, (_, n) => Math.floor(n / size) & 3)),
  );
  const scaled = f.op<"v128">("i8x16.shl", spread, i32(Math.log2(size)));
  return f.let(f.op<"v128">("i8x16.add", scaled, v128(Uint8Array.from({ length: 16 }, (_, n) => n % size))));
}
define("PSHUFD", "66 0f 70 Vx,Wx,Ib", (o, i) => {
  needSse(o);
  const b = source128(o, i, i.operands[1]);
  i.operands[0].writeV(o.f.op("i8x16.swizzle", b, fieldIndex(o, i.imm(), 4)));
});
define("PSHUFLW", "f2 0f 70 Vx,Wx,Ib", (o, i) => {
  needSse(o);
  const b = source128(o, i, i.operands[1]);
  const moved = o.f.let(o.f.op<"v128">("i8x16.swizzle", b, fieldIndex(o, i.imm(), 2)));
  i.operands[0].writeV(vector(o, low(o, moved), high(o, b)));
});
define("PSHUFHW", "f3 0f 70 Vx,Wx,Ib", (o, i) => {
  needSse(o);
  const b = source128(o, i, i.operands[1]);
  const upper = o.f.op<"v128">("i8x16.add", fieldIndex(o, i.imm(), 2), v128(new Uint8Array(16).fill(8)));
  const moved = o.f.let(o.f.op<"v128">("i8x16.swizzle", b, upper));
  i.operands[0].writeV(vector(o, low(o, b), low(o, moved)));
});
define("PSHUFW", "np 0f 70 Pq,Qq,Ib", (o, i) => {
  needMmx(o);
  const b = vector(o, i.operands[1].read());
  enterMmx(o);
  i.operands[0].write(low(o, o.f.let(o.f.op<"v128">("i8x16.swizzle", b, fieldIndex(o, i.imm(), 2)))));
});
define("SHUFPS", "np 0f c6 Vx,Wx,Ib", (o, i) => {
  needSse(o);
  const { f } = o;
  const b = source128(o, i, i.operands[1]);
  const index = fieldIndex(o, i.imm(), 4);
  const fromA = f.let(f.op<"v128">("i8x16.swizzle", i.operands[0].readV(), index));
  const fromB = f.let(f.op<"v128">("i8x16.swizzle", b, index));
  i.operands[0].writeV(vector(o, low(o, fromA), high(o, fromB)));
});
define("SHUFPD", "66 0f c6 Vx,Wx,Ib", (o, i) => {
  needSse(o);
  const { f } = o;
  const b = source128(o, i, i.operands[1]);
  const a = i.operands[0].readV();
  const imm = i.imm();
  const lo = f.select(imm.and(1), high(o, a), low(o, a));
  const hi = f.select(imm.and(2), high(o, b), low(o, b));
  i.operands[0].writeV(vector(o, lo, hi));
});

// One element, chosen by an immediate

/** Replaces the element of `size` bytes at index `n`. */
function insert(
  o: Ops,
  v: ReturnType<typeof vector>,
  n: ReturnType<Instruction["imm"]>,
  size: number,
  value: ReturnType<typeof low>,
): ReturnType<typeof vector> {
  const { f } = o;
  const lane = { 1: "i8x16", 2: "i16x8", 4: "i32x4", 8: "i64x2" }[size]!;
  const splat = size === 8 ? f.op<"v128">("i64x2.splat", value) : f.op<"v128">(`${lane}.splat`, value.wrap());
  const elements = v128(Uint8Array.from({ length: 16 }, (_, k) => Math.floor(k / size)));
  const mask = f.op<"v128">("i8x16.eq", elements, f.op("i8x16.splat", n));
  return f.op("v128.bitselect", splat, v, mask);
}
function extract(
  o: Ops,
  v: ReturnType<typeof vector>,
  n: ReturnType<Instruction["imm"]>,
  size: number,
): ReturnType<typeof low> {
  const { f } = o;
  const at = f.let(n.mul(size * 8));
  const half = f.select(at.and(64), high(o, v), low(o, v));
  return f.let(half.shrU(at.and(63).extU()).zeroExtend((size * 8) as 8 | 16 | 32 | 64));
}
define("PINSRW", "66 0f c4 Vx,Rd,Ib", (o, i) => insertElement(o, i, 2));
define("PINSRW", "66 0f c4 Vx,Mw,Ib", (o, i) => insertElement(o, i, 2));
define("PINSRB", "66 0f3a 20 Vx,Rd,Ib", (o, i) => insertElement(o, i, 1));
define("PINSRB", "66 0f3a 20 Vx,Mb,Ib", (o, i) => insertElement(o, i, 1));
define("PINSRD", "66 0f3a 22 Vx,Ey,Ib", (o, i) => insertElement(o, i, i.operands[1].width));
function insertElement(o: Ops, i: Instruction, size: number): void {
  needSse(o);
  const value = i.operands[1].read();
  const n = o.f.let(i.imm().and(16 / size - 1));
  i.operands[0].writeV(insert(o, i.operands[0].readV(), n, size, value));
}
for (const [encoding, isMemory] of [
  ["np 0f c4 Pq,Rd,Ib", false],
  ["np 0f c4 Pq,Mw,Ib", true],
] as const) {
  define("PINSRW", encoding, (o, i) => {
    void isMemory;
    needMmx(o);
    const value = i.operands[1].read();
    enterMmx(o);
    const n = o.f.let(i.imm().and(3));
    i.operands[0].write(low(o, o.f.let(insert(o, vector(o, i.operands[0].read()), n, 2, value))));
  });
}
function extractElement(size: number): (o: Ops, i: Instruction) => void {
  return (o, i) => {
    needSse(o);
    const n = o.f.let(i.imm().and(16 / size - 1));
    i.operands[0].write(extract(o, i.operands[1].readV(), n, size));
  };
}
define("PEXTRW", "66 0f c5 Gd,Ux,Ib", extractElement(2));
define("PEXTRB", ["66 0f3a 14 Rd,Vx,Ib", "66 0f3a 14 Mb,Vx,Ib"], extractElement(1));
define("PEXTRW", ["66 0f3a 15 Rd,Vx,Ib", "66 0f3a 15 Mw,Vx,Ib"], extractElement(2));
define("PEXTRD", "66 0f3a 16 Ey,Vx,Ib", (o, i) => extractElement(i.operands[0].width)(o, i));
define("EXTRACTPS", "66 0f3a 17 Ed,Vx,Ib", extractElement(4));
define("PEXTRW", "np 0f c5 Gd,Nq,Ib", (o, i) => {
  needMmx(o);
  enterMmx(o);
  const n = o.f.let(i.imm().and(3));
  i.operands[0].write(extract(o, vector(o, i.operands[1].read()), n, 2));
});

/** INSERTPS: bits 7–6 choose the source element (registers only), 5–4 the place, 3–0 which places become zero. */
define("INSERTPS", "66 0f3a 21 Vx,Wd,Ib", (o, i) => {
  needSse(o);
  const { f } = o;
  const [dst, src] = i.operands;
  const imm = i.imm();
  const value = src.kind === "mem" ? src.read() : extract(o, src.readV(), f.let(imm.shrU(6).and(3)), 4);
  const inserted = f.let(insert(o, dst.readV(), f.let(imm.shrU(4).and(3)), 4, value));
  const bits = v128(Uint8Array.from({ length: 16 }, (_, k) => (k % 4 === 0 ? 1 << (k / 4) : 0)));
  const cleared = f.op<"v128">("i32x4.ne", f.op("v128.and", f.op("i32x4.splat", imm), bits), v128(new Uint8Array(16)));
  dst.writeV(f.op("v128.andnot", inserted, cleared));
});
