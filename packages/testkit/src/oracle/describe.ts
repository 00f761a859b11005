/** Cases, results and differences as text for people. */
import { CODE_BASE, type TestCase, type TestResult, Vector } from "./case.ts";
import type { Difference } from "./compare.ts";

const REGISTER_NAMES = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" ");
export const registerName = (num: number): string => REGISTER_NAMES[num];

/** Where the result ended, in bytes from the start of the code; for #BP the INT3 itself. */
export const codeOffsetOf = (c: TestCase, r: TestResult): number =>
  Number(r.rip) - CODE_BASE - (c.codeOffset ?? 0) - (r.vector === Vector.BP ? 1 : 0);

/** The bits that are undefined where the result ended. */
export function ignoredAt(
  c: TestCase,
  entries: readonly { readonly at: number; readonly mask: number }[] | undefined,
  result: TestResult,
): number {
  if (entries === undefined) return 0;
  const at = codeOffsetOf(c, result);
  // A case that left its code ended behind some branch; all that was ever undefined may be.
  if (at < 0 || at > c.code.length) return entries.reduce((mask, entry) => mask | entry.mask, 0);
  let mask = 0;
  for (const entry of entries) if (entry.at <= at) mask = entry.mask;
  return mask;
}

const hexBytes = (bytes: Uint8Array): string => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join(" ");

/** The code, one line an instruction where boundaries are known. */
export function describeCode(c: TestCase): string[] {
  const base = CODE_BASE + (c.codeOffset ?? 0);
  const instructions = c.instructions ?? [{ at: 0, text: "" }];
  return instructions.map(({ at, text }, i) => {
    const bytes = c.code.subarray(at, instructions[i + 1]?.at ?? c.code.length);
    return `  ${(base + at).toString(16)}: ${hexBytes(bytes)}${text && `  ${text}`}`;
  });
}

/** The case and its first difference, several lines. */
export function describeFailure(c: TestCase, d: Difference): string {
  const registers = [...c.gprs].map((value, i) => `${registerName(i)}=${value.toString(16)}`);
  return [
    `${d.what}: expected ${d.expected}, got ${d.actual}`,
    ...describeCode(c),
    `  ${registers.slice(0, 8).join(" ")}`,
    `  ${registers.slice(8).join(" ")}`,
    `  rflags=${c.rflags.toString(16)}${c.fx ? " with x87/SSE state" : ""}${(c.memory ?? []).map((p) => ` [+${p.offset.toString(16)}]=${hexBytes(p.bytes)}`).join("")}`,
  ].join("\n");
}
