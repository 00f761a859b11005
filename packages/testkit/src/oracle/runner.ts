/**
 * The program that runs batches of cases natively on an x86-64 Linux host: a static ELF made by the assembler.
 *
 * One case goes through it so: `next` copies the code and memory patches into place; `enter` loads the x87/SSE state
 * and the registers, and goes into the case by IRETQ. Every case ends in a signal. `collect`, on the signal's stack,
 * takes the state out of the ucontext, writes the result, restores scratch memory and goes to `next` without ever
 * returning from the signal. A timer of the process's own CPU time ends cases that run on.
 *
 * @see Linux arch/x86/include/uapi/asm/sigcontext.h for the layout of the signal frame
 */

import { Assembler, writeElf } from "../asm/index.ts";
import { defaultFx } from "./case.ts";
import { BUFFERS, BUFFERS_BYTES, IMAGE_BYTES, RUNNER_BASE, VARIABLES } from "./runner-layout.ts";
import { emitLoop } from "./runner-loop.ts";
import { emitSetup, emitSetupData } from "./runner-setup.ts";

/** The runner as an ELF64 executable; the same bytes on every host. */
export function buildRunner(): Uint8Array {
  const a = new Assembler({ mode: 64, origin: RUNNER_BASE });
  let buffer = RUNNER_BASE + IMAGE_BYTES;
  for (const [name, bytes] of BUFFERS) {
    a.equate(name, buffer).equate(`${name}.end`, buffer + bytes);
    buffer += bytes;
  }
  a.label("image");
  emitSetup(a);
  emitLoop(a);
  a.align(16).label("defaultFx").db(defaultFx());
  emitSetupData(a);
  a.align(8);
  for (const name of VARIABLES) a.label(`var.${name}`).dq(0);
  const image = new Uint8Array(IMAGE_BYTES);
  image.set(a.bytes());
  return writeElf({ image, loadAddress: RUNNER_BASE, entry: a.address("start"), bssBytes: BUFFERS_BYTES });
}
