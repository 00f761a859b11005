import { it } from "node:test";
import { type Assembler, assemble } from "@xenoserver/testkit";
import { BareMachine, CODE, MODES, type Translate } from "./bare-machine.ts";

/** What a guest does when it is done. */
export const HALTED = { kind: "shutdown", reason: "halted-with-interrupts-off" };

/** Runs the same scenario interpreted, with hot code translated, and with all code translated. */
export function inEveryMode(name: string, scenario: (machine: BareMachine, mode: Translate) => void): void {
  for (const mode of MODES) it(`${name} (translate: ${mode})`, () => scenario(new BareMachine(mode), mode));
}

/** 64-bit code that will lie at `origin`. */
export const guest = (write: (a: Assembler) => void, origin = CODE): Uint8Array => assemble(64, write, origin);
