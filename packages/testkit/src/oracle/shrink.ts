import { defaultFx, FX_BYTES, type TestCase } from "./case.ts";

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
    return [{ ...c, code, instructions: list.map((x, k) => (k === i ? { at, text: "nop" } : x)) }];
  });
}

/** Without the NOPs, or with what starts after them moved down by cutting the code at its front or end. */
function closedUp(c: TestCase): TestCase[] {
  const list = c.instructions ?? [];
  if (!list.some((x) => x.text === "nop")) return [];
  const bytes: number[] = [];
  const instructions: { at: number; text: string }[] = [];
  list.forEach(({ at, text }, i) => {
    if (text === "nop") return;
    instructions.push({ at: bytes.length, text });
    bytes.push(...c.code.subarray(at, list[i + 1]?.at ?? c.code.length));
  });
  const ignore = c.ignore && {
    ...c.ignore,
    ...(c.ignore.rflags && { rflags: everywhere(c.ignore.rflags) }),
    ...(c.ignore.fsw && { fsw: everywhere(c.ignore.fsw) }),
  };
  return [{ ...c, code: new Uint8Array(bytes), instructions, ...(ignore && { ignore }) }];
}

function everywhere(entries: readonly { at: number; mask: number }[]): { at: number; mask: number }[] {
  return [{ at: 0, mask: entries.reduce((mask, e) => mask | e.mask, 0) }];
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
