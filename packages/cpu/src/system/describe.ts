import { State } from "../state/layout.ts";
import type { Machine } from "./machine.ts";

const NAMES = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
];
const hex64 = (lo: number, hi: number) =>
  `${(hi >>> 0).toString(16).padStart(8, "0")}${(lo >>> 0).toString(16).padStart(8, "0")}`;

/** Registers as text, for a crash report. */
export function describeMachine(m: Machine): string {
  const pair = (offset: number) => hex64(m.get32(offset), m.get32(offset + 4));
  const lines: string[] = [];
  for (let r = 0; r < 16; r += 4) {
    lines.push([0, 1, 2, 3].map((k) => `${NAMES[r + k].padStart(3)} ${pair((r + k) * 8)}`).join("  "));
  }
  const rip = m.nextRip;
  lines.push(
    `rip ${hex64(rip >>> 0, Math.floor(rip / 2 ** 32))}  flags ${(m.rflags >>> 0).toString(16).padStart(8, "0")}  cpl ${m.cpl}`,
  );
  lines.push(`cr0 ${pair(State.cr0)}  cr2 ${pair(State.cr2)}  cr3 ${pair(State.cr3)}  cr4 ${pair(State.cr4)}`);
  const selectors = ["es", "cs", "ss", "ds", "fs", "gs"].map(
    (name, s) =>
      `${name} ${m
        .get32(State.selector + s * 4)
        .toString(16)
        .padStart(4, "0")}`,
  );
  lines.push(`${selectors.join("  ")}  efer ${pair(State.efer)}`);
  return lines.join("\n");
}
