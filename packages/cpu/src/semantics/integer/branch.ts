import { define } from "../define.ts";
import { bitsOf } from "../instruction.ts";

const ENDS = { ends: true } as const;

define("JMP", ["eb Jb f64", "e9 Jz f64"], (o) => o.jumpRelative(), ENDS);
define("JMP indirect", "ff /4 Ev f64", (o, i) => o.jumpTo(i.operands[0].read()), ENDS);
define(
  "CALL",
  "e8 Jz f64",
  (o, i) => {
    o.needTarget();
    o.push(i, i.width, o.nextIp());
    o.jumpRelative();
  },
  ENDS,
);
define(
  "CALL indirect",
  "ff /2 Ev f64",
  (o, i) => {
    const target = i.operands[0].read();
    o.needTarget(target);
    o.push(i, i.width, o.nextIp());
    o.jumpTo(target);
  },
  ENDS,
);
define("RET", "c3 f64", (o, i) => o.jumpTo(o.popTarget(i)), ENDS);
define(
  "RET imm",
  "c2 Iw f64",
  (o, i) => {
    const target = o.popTarget(i);
    o.writeGpr(4, i.stackSize, o.stackPointer(i).add(i.imm().and(0xffff).extU()));
    o.jumpTo(target);
  },
  ENDS,
);

/** LOOPNE LOOPE LOOP: count in (E)CX or RCX by address size; flags are not touched. */
["LOOPNE", "LOOPE", "LOOP"].forEach((name, k) => {
  define(name, `e${k} Jb f64 a`, (o, i) => {
    const count = o.f.let(o.readGpr(1, i.addressSize).sub(1));
    const left = count.zeroExtend(bitsOf(i.addressSize)).eqz().eqz();
    const jumps = o.f.let(k === 2 ? left : left.and(o.condition(k === 0 ? 5 : 4)));
    o.needTarget(undefined, jumps);
    o.writeGpr(1, i.addressSize, count);
    o.jumpRelative(jumps);
  });
});
define("JCXZ", "e3 Jb f64 a", (o, i) => o.jumpRelative(o.readGpr(1, i.addressSize).eqz()));
