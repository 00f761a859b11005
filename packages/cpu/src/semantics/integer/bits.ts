import { type I64, i64 } from "@xenoserver/wasm";
import { define } from "../define.ts";
import { bitsOf } from "../instruction.ts";

type Change = ((old: I64, bit: I64) => I64) | undefined;

/** BT, BTS, BTR, BTC. A register bit offset into memory is signed and reaches beyond the operand. */
function bitTest(name: string, opcode: string, digit: number, change: Change): void {
  define(
    name,
    [`0f ${opcode} Ev,Gv a`, `0f ba /${digit} Ev,Ib`],
    (o, i) => {
      const { f } = o;
      const [dst, offset] = i.operands;
      const bits = bitsOf(dst.width);
      const raw = offset.readS();
      const position = f.let(raw.and(bits - 1));
      let before: I64 = position;
      const replace = (old: I64): I64 => {
        before = old;
        return f.let(change!(old, f.let(i64(1).shl(position))));
      };
      if (dst.kind !== "mem") {
        if (change) dst.write(replace(dst.read()));
        else before = dst.read();
      } else {
        // An immediate offset stays within the operand; its encoding's handlers serve every address size.
        const past = () => i.addressPast(raw.shrS(Math.log2(bits)).shl(Math.log2(dst.width)));
        const at = offset.kind === "imm" ? i.address() : f.let(past());
        if (!change) before = o.load(at, dst.width);
        else {
          o.checkOperandWrite();
          if (i.lock) o.lockedChange(at, dst.width, replace);
          else o.update(at, dst.width, (host) => o.storeHost(host, dst.width, replace(o.loadHost(host, dst.width))));
        }
      }
      o.setCarry(f.let(before.shrU(position).and(1)));
    },
    { lockable: change !== undefined },
  );
}
bitTest("BT", "a3", 4, undefined);
bitTest("BTS", "ab", 5, (old, bit) => old.or(bit));
bitTest("BTR", "b3", 6, (old, bit) => old.and(bit.not()));
bitTest("BTC", "bb", 7, (old, bit) => old.xor(bit));

/** BSF and BSR leave their destination alone when the source is 0. */
function scan(name: string, opcode: string, reverse: boolean): void {
  define(name, `0f ${opcode} Gv,Ev`, (o, i) => {
    const { f } = o;
    const [dst, src] = i.operands;
    const value = src.read();
    f.if(value.eqz().eqz(), () => dst.write(reverse ? i64(63).sub(value.clz()) : value.ctz()));
    // ZF by the source; the others are undefined.
    o.setFlags({ kind: "logic", res: f.let(value.signExtend(bitsOf(src.width))) });
  });
}
scan("BSF", "bc", false);
scan("BSR", "bd", true);

define("POPCNT", "f3 0f b8 Gv,Ev", (o, i) => {
  const { f } = o;
  const [dst, src] = i.operands;
  const value = src.read();
  dst.write(value.popcnt());
  // All flags clear but ZF: a result of 1 has no SF and no PF.
  o.setFlags({ kind: "logic", res: f.let(value.eqz().eqz().extU()) });
  const flags = o.arithmeticFlags();
  o.setArithmeticFlags(flags.and(0x40));
});

/** CRC-32C (reflected polynomial 0x82f63b78), a bit at a time. */
define("CRC32", ["f2 0f38 f0 Gy,Eb", "f2 0f38 f1 Gy,Ev"], (o, i) => {
  const { f } = o;
  const [dst, src] = i.operands;
  const data = src.read();
  const crc = f.var("i64", dst.read().zeroExtend(32).xor(data));
  const rest = f.var("i32");
  rest.set(f.let(i64(src.width * 8).wrap()));
  // Bits above 32 are data that has not met the register yet; they shift down into it.
  f.loop((again) => {
    const out = f.let(i64(0).sub(crc.get().and(1)));
    crc.set(
      crc
        .get()
        .shrU(1)
        .xor(out.and(o.const64(0x82f63b78, 0))),
    );
    rest.set(rest.get().sub(1));
    f.brIf(again, rest.get());
  });
  dst.write(crc.get().zeroExtend(32));
});
