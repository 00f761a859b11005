import { type BitEffect, type CaseInstruction, defaultFx, FX_BYTES, type TestCase } from "./case.ts";

const NOP = 0x90;

/** Says for each case whether it still fails. */
export type FailsCheck = (cases: readonly TestCase[]) => boolean[];

/**
 * Reduces a failing case: fewer instructions, simpler registers, flags, x87/SSE state and memory.
 * Candidates of a step are checked together, so a step costs one run of each engine.
 * @returns a case that still fails; the given one if nothing can be left out
 */
export function shrink(failing: TestCase, fails: FailsCheck): TestCase {
  let best = failing;
  for (const step of [dropped, closedUp, simplerRegisters, simplerState, droppedMemory]) {
    for (let rounds = 0; rounds < 40; rounds++) {
      const candidates = step(best);
      if (candidates.length === 0) break;
      const verdicts = fails(candidates);
      const chosen = candidates.find((_, i) => verdicts[i]);
      if (chosen === undefined) break;
      best = chosen;
    }
  }
  return best;
}

/** One instruction less each: its bytes become NOPs, so that what refers to the others stays right. */
function dropped(c: TestCase): TestCase[] {
  const list = c.instructions ?? [];
  return list.flatMap(({ at, text }, i) => {
    if (text === "nop") return [];
    const code = c.code.slice().fill(NOP, at, list[i + 1]?.at ?? c.code.length);
    return withInstructions(
      c,
      code,
      list.map((x, k) => (k === i ? { at, text: "nop" } : x)),
    );
  });
}

/** Without the NOPs. */
function closedUp(c: TestCase): TestCase[] {
  const list = c.instructions ?? [];
  if (!list.some((x) => x.text === "nop")) return [];
  const bytes: number[] = [];
  const instructions: CaseInstruction[] = [];
  const moved = new Map<number, number>();
  list.forEach((x, i) => {
    if (x.text === "nop") return;
    moved.set(x.at, bytes.length);
    instructions.push({ ...x, at: bytes.length });
    bytes.push(...c.code.subarray(x.at, list[i + 1]?.at ?? c.code.length));
  });
  const partialStack = c.ignore?.partialStack?.flatMap((x) => {
    const at = moved.get(x.at);
    return at === undefined ? [] : [{ ...x, at }];
  });
  const ignore = { ...c.ignore, ...(partialStack && { partialStack }) };
  return withInstructions({ ...c, ignore }, new Uint8Array(bytes), instructions);
}

/**
 * The case with other instructions, and with what is undefined worked out anew: an instruction that is gone no longer
 * defines anything. None if one that is left would now read something undefined.
 */
function withInstructions(c: TestCase, code: Uint8Array, instructions: readonly CaseInstruction[]): TestCase[] {
  const flags = masksAfter(instructions, code.length, (x) => x.flags);
  const status = masksAfter(instructions, code.length, (x) => x.status);
  if (flags === undefined || status === undefined) return [];
  const { rflags: _, fsw: __, ...rest } = c.ignore ?? {};
  const ignore = { ...rest, ...(flags.length > 0 && { rflags: flags }), ...(status.length > 0 && { fsw: status }) };
  const { ignore: ___, ...plain } = c;
  return [{ ...plain, code, instructions, ...(Object.keys(ignore).length > 0 && { ignore }) }];
}

function masksAfter(
  instructions: readonly CaseInstruction[],
  codeBytes: number,
  effectOf: (x: CaseInstruction) => BitEffect | undefined,
): { at: number; mask: number }[] | undefined {
  const masks: { at: number; mask: number }[] = [];
  let mask = 0;
  let branched = false;
  for (const [i, x] of instructions.entries()) {
    const effect = effectOf(x);
    if (effect === undefined) continue;
    // Only what reads flags is preceded by a helper that settles them.
    if (effect === x.flags) mask &= ~(x.settled ?? 0);
    if ((effect.reads & mask) !== 0) return undefined;
    // Behind a branch it is open which definitions were passed.
    branched ||= x.branch === true;
    const before = mask;
    mask = (branched ? mask : mask & ~effect.defined) | effect.undefined;
    // A helper in front of the instruction may have left flags undefined when the instruction faults.
    const within = before | mask;
    if (within !== (masks.at(-1)?.mask ?? 0)) masks.push({ at: x.at, mask: within });
    if (mask !== (masks.at(-1)?.mask ?? 0)) masks.push({ at: instructions[i + 1]?.at ?? codeBytes, mask });
  }
  return masks;
}

function simplerRegisters(c: TestCase): TestCase[] {
  const out: TestCase[] = [];
  c.gprs.forEach((value, i) => {
    for (const simple of [0n, 1n, value & 0xffn, value & 0xffff_ffffn]) {
      if (simple >= value) continue;
      const gprs = c.gprs.slice();
      gprs[i] = simple;
      out.push({ ...c, gprs });
    }
  });
  for (let bit = 1; bit <= 0x20_0000; bit <<= 1) if (c.rflags & bit) out.push({ ...c, rflags: c.rflags & ~bit });
  return out;
}

function simplerState(c: TestCase): TestCase[] {
  const out: TestCase[] = [];
  if (c.codeOffset) out.push({ ...c, codeOffset: 0 });
  if (c.fx === undefined) return out;
  const { fx: _, ...withoutState } = c;
  out.push(withoutState);
  const plain = defaultFx();
  for (let at = 0; at < FX_BYTES; at += at < 32 ? 4 : 16) {
    const end = at + (at < 32 ? 4 : 16);
    if (Buffer.compare(c.fx.subarray(at, end), plain.subarray(at, end)) === 0) continue;
    const fx = c.fx.slice();
    fx.set(plain.subarray(at, end), at);
    out.push({ ...c, fx });
  }
  return out;
}

function droppedMemory(c: TestCase): TestCase[] {
  return (c.memory ?? []).map((_, i) => ({ ...c, memory: c.memory?.filter((__, k) => k !== i) ?? [] }));
}
