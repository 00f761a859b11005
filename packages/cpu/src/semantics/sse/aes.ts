import { type I32, i32, i64, type V128 } from "@xenoserver/wasm";
import { State } from "../../state/layout.ts";
import { Tables } from "../../state/tables.ts";
import { define } from "../define.ts";
import type { Instruction } from "../instruction.ts";
import type { Ops } from "../ops.ts";
import { high, low, source128, vector } from "./access.ts";
import { needSse } from "./control.ts";

/** AES-NI and carry-less multiplication. */

/** The 16 bytes of a vector, read back from the bounce buffer. */
function bytesOf(o: Ops, v: V128): (k: number) => I32 {
  o.f.store("v128.store", o.vb, v, State.bounce);
  return (k) => o.f.load<"i32">("i32.load8_u", o.vb, State.bounce + k);
}
const lookUp = (o: Ops, table: number, index: I32): I32 => o.f.load<"i32">("i32.load", index.shl(2), table);
const lookUpByte = (o: Ops, table: number, index: I32): I32 => o.f.load<"i32">("i32.load8_u", index, table);

function fromColumns(o: Ops, column: (c: number) => I32): V128 {
  const { f } = o;
  let v = f.op<"v128">("i32x4.splat", column(0));
  for (let c = 1; c < 4; c++) v = f.lane<"v128">("i32x4.replace_lane", c, v, column(c));
  return f.let(v);
}

/** Where row `r` of column `c` comes from: rows turn left to encrypt, right to decrypt. */
const shiftRows = (r: number, c: number, decrypting: boolean): number => r + 4 * ((decrypting ? c - r + 4 : c + r) % 4);

function round(o: Ops, state: V128, key: V128, decrypting: boolean): V128 {
  const at = bytesOf(o, state);
  const table = decrypting ? Tables.decrypt : Tables.encrypt;
  const mixed = fromColumns(o, (c) => {
    const term = (r: number) => lookUp(o, table, at(shiftRows(r, c, decrypting)));
    return term(0).xor(term(1).rotl(8)).xor(term(2).rotl(16)).xor(term(3).rotl(24));
  });
  return o.f.op("v128.xor", mixed, key);
}
function lastRound(o: Ops, state: V128, key: V128, decrypting: boolean): V128 {
  const at = bytesOf(o, state);
  const table = decrypting ? Tables.inverseSbox : Tables.sbox;
  const columns = fromColumns(o, (c) => {
    const term = (r: number) => lookUpByte(o, table, at(shiftRows(r, c, decrypting))).shl(8 * r);
    return term(0).or(term(1)).or(term(2)).or(term(3));
  });
  return o.f.op("v128.xor", columns, key);
}

function aes(name: string, opcode: string, compute: (o: Ops, state: V128, key: V128) => V128): void {
  define(name, `66 0f38 ${opcode} Vx,Wx`, (o, i) => {
    needSse(o);
    const key = source128(o, i, i.operands[1]);
    i.operands[0].writeV(compute(o, i.operands[0].readV(), key));
  });
}
aes("AESENC", "dc", (o, state, key) => round(o, state, key, false));
aes("AESENCLAST", "dd", (o, state, key) => lastRound(o, state, key, false));
aes("AESDEC", "de", (o, state, key) => round(o, state, key, true));
aes("AESDECLAST", "df", (o, state, key) => lastRound(o, state, key, true));
// Inverse MixColumns alone: the table undoes an S-box that is applied first.
aes("AESIMC", "db", (o, _state, key) => {
  const at = bytesOf(o, key);
  return fromColumns(o, (c) => {
    const term = (r: number) => lookUp(o, Tables.decrypt, lookUpByte(o, Tables.sbox, at(4 * c + r)));
    return term(0).xor(term(1).rotl(8)).xor(term(2).rotl(16)).xor(term(3).rotl(24));
  });
});
define("AESKEYGENASSIST", "66 0f3a df Vx,Wx,Ib", (o, i) => {
  needSse(o);
  const { f } = o;
  const at = bytesOf(o, source128(o, i, i.operands[1]));
  const substitute = (word: number) => {
    const term = (k: number) => lookUpByte(o, Tables.sbox, at(word * 4 + k)).shl(8 * k);
    return f.let(term(0).or(term(1)).or(term(2)).or(term(3)));
  };
  const constant = f.let(i.imm().and(0xff));
  const [x1, x3] = [substitute(1), substitute(3)];
  const rotated = (x: I32) => x.rotr(8).xor(constant);
  i.operands[0].writeV(fromColumns(o, (c) => [x1, rotated(x1), x3, rotated(x3)][c]));
});

define("PCLMULQDQ", "66 0f3a 44 Vx,Wx,Ib", (o, i) => multiplyCarryless(o, i));
function multiplyCarryless(o: Ops, i: Instruction): void {
  needSse(o);
  const { f } = o;
  const b = source128(o, i, i.operands[1]);
  const a = i.operands[0].readV();
  const imm = i.imm();
  const x = f.let(f.select(imm.and(1), high(o, a), low(o, a)));
  const y = f.var("i64", f.let(f.select(imm.and(16), high(o, b), low(o, b))));
  const [lo, hi] = [f.var("i64", i64(0)), f.var("i64", i64(0))];
  const n = f.var("i32", i32(64));
  // From the top bit of y down: double the product, add x where the bit is set.
  f.loop((again) => {
    hi.set(hi.get().shl(1).or(lo.get().shrU(63)));
    lo.set(
      lo
        .get()
        .shl(1)
        .xor(x.and(y.get().shrS(63))),
    );
    y.set(y.get().shl(1));
    n.set(n.get().sub(1));
    f.brIf(again, n.get());
  });
  i.operands[0].writeV(vector(o, lo.get(), hi.get()));
}
