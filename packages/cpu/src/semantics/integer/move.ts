import { type I64, i64 } from "@xenoserver/wasm";
import { define } from "../define.ts";

const CONDITIONS = ["O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G"];
const opcode = (base: number, cc: number) => (base + cc).toString(16).padStart(2, "0");

define("MOV", [
  "88 Eb,Gb",
  "89 Ev,Gv",
  "8a Gb,Eb",
  "8b Gv,Ev",
  "c6 /0 Eb,Ib",
  "c7 /0 Ev,Iz",
  "b0+r Zb,Ib",
  "b8+r Zv,Iv",
  "a0 AL,Ob",
  "a1 eAX,Ov",
  "a2 Ob,AL",
  "a3 Ov,eAX",
], (_o, i) => i.operands[0].write(i.operands[1].read()));
define("MOVZX", ["0f b6 Gv,Eb", "0f b7 Gv,Ew"], (_o, i) => i.operands[0].write(i.operands[1].read()));
define("MOVSX", ["0f be Gv,Eb", "0f bf Gv,Ew"], (_o, i) => i.operands[0].write(i.operands[1].readS()));
define("MOVSXD", "63 Gv,Ed o64", (_o, i) => i.operands[0].write(i.operands[1].readS()));
define("LEA", "8d Gv,M", (_o, i) => i.operands[0].write(i.address()));

/** Reverses the bytes of the low `width` bytes. */
export function byteSwap(o: { f: { let(v: I64): I64 } }, v: I64, width: number): I64 {
  const { f } = o;
  const swapPairs = (x: I64) =>
    f.let(
      x
        .shrU(8)
        .and(halves(0x00ff00ff))
        .or(x.and(halves(0x00ff00ff)).shl(8)),
    );
  const halves = (word: number) => i64(word).or(i64(word).shl(32));
  const bytes = swapPairs(v);
  const words = f.let(
    bytes
      .shrU(16)
      .and(halves(0x0000ffff))
      .or(bytes.and(halves(0x0000ffff)).shl(16)),
  );
  const all = f.let(words.rotl(32));
  return width === 8 ? all : f.let(all.shrU(64 - width * 8));
}
define("BSWAP", "0f c8+r Zv", (o, i) => {
  const dst = i.operands[0];
  // The 16-bit form is undefined; processors give 0.
  dst.write(dst.width === 2 ? i64(0) : byteSwap(o, dst.read(), dst.width));
});

for (let cc = 0; cc < 16; cc++) {
  define(`CMOV${CONDITIONS[cc]}`, `0f ${opcode(0x40, cc)} Gv,Ev`, (o, i) => {
    const [dst, src] = i.operands;
    // Both are read, and a 32-bit destination is zero-extended, whether or not the condition holds.
    const b = src.read();
    const a = dst.read();
    dst.write(o.f.select(o.condition(cc), b, a));
  });
  define(`SET${CONDITIONS[cc]}`, `0f ${opcode(0x90, cc)} Eb`, (o, i) => i.operands[0].write(o.condition(cc).extU()));
  define(`J${CONDITIONS[cc]}`, [`${opcode(0x70, cc)} Jb f64`, `0f ${opcode(0x80, cc)} Jz f64`], (o) =>
    o.jumpRelative(o.condition(cc)),
  );
}

/** Sign extension inside the accumulator: CBW CWDE CDQE. */
define("CBW", "98", (o, i) => {
  const half = i.width / 2;
  o.writeGpr(0, i.width, o.f.let(o.readGprS(0, half)));
});
/** CWD CDQ CQO. */
define("CWD", "99", (o, i) => {
  const sign = o.f.let(o.readGprS(0, i.width).shrS(63));
  o.writeGpr(2, i.width, sign);
});

define("XLAT", "d7 a", (o, i) => {
  const mask = i.addressSize === 8 ? i64(-1) : i.addressSize === 4 ? o.const64(-1, 0) : i64(0xffff);
  const offset = o.f.let(o.getGpr(3).add(o.readGpr(0, 1)).and(mask));
  if (!i.mode64) o.checkSegment(i.segmentNumber(), offset, 1, "read");
  const at = o.f.let(offset.add(i.segmentBase()));
  o.writeGpr(0, 1, o.load(i.mode64 ? at : o.f.let(at.and(o.const64(-1, 0))), 1));
});

define("NOP", [
  "90 norexb",
  "0f 0d M",
  "0f 18 Ev",
  "0f 19 Ev",
  "0f 1a Ev",
  "0f 1b Ev",
  "0f 1c Ev",
  "0f 1d Ev",
  "0f 1e Ev",
  "0f 1f Ev",
], () => {});
// Of memory that is cached alike, as all of a guest's is here, x86 reorders stores with later loads alone: only MFENCE has something to do. Other hosts reorder more.
const inOrder = globalThis.process?.arch === "x64";
define("LFENCE", ["np 0f ae /5 reg", "np 0f ae /7 reg"], (o) => (inOrder ? undefined : o.f.fence()));
define("MFENCE", ["np 0f ae /6 reg"], (o) => o.f.fence());
define("CLFLUSH", ["np 0f ae /7 Mb"], (o, i) => o.f.drop(o.load(i.address(), 1)));

define("LAHF", "9f", (o) => o.writeHigh(0, o.arithmeticFlags().and(0xd5).or(2)));
define("SAHF", "9e", (o) => {
  const old = o.arithmeticFlags();
  o.setArithmeticFlags(old.and(0x800).or(o.readHigh(0).and(0xd5)));
});
define("CLC", "f8", (o) => o.setCarry(i64(0)));
define("STC", "f9", (o) => o.setCarry(i64(1)));
define("CMC", "f5", (o) => o.setCarry(o.f.let(o.carry().xor(1))));
define("SALC", "d6 i64", (o) => o.writeGpr(0, 1, i64(0).sub(o.carry())));
