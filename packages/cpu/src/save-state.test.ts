/** FXSAVE, XSAVE and their inverses: generated code, which wants the image on one page, against the host program's, which does not. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Assembler, byte, eax, edx, qword, rdi, rsi } from "@xenoserver/testkit";
import { Gpr } from "./engine.ts";
import { State } from "./state/layout.ts";
import { BareMachine, CODE } from "./testing/bare-machine.ts";
import { guest, HALTED, inEveryMode } from "./testing/every-mode.ts";

/** One image on one page, another on two. */
const [WITHIN, ACROSS, LENGTH] = [0x50000, 0x52fc0 - 0x100, 576];
type Operation = "FXSAVE" | "FXRSTOR" | "XSAVE" | "XRSTOR";
const DIGIT: Readonly<Record<Operation, number>> = { FXSAVE: 0, FXRSTOR: 1, XSAVE: 4, XRSTOR: 5 };

/** `wide` is with REX.W. */
function emit(a: Assembler, what: Operation, wide: boolean): Assembler {
  if (wide) a.db(0x48);
  return a.db(0x0f, 0xae, (DIGIT[what] << 3) | 7);
}
function imageAt(m: BareMachine, at: number): Uint8Array {
  const bytes = new Uint8Array(LENGTH);
  m.memory.read(at as never, bytes);
  return bytes;
}
/** An image with something else everywhere, that can be loaded. */
function patterned(present: number): Uint8Array {
  const image = Uint8Array.from({ length: LENGTH }, (_, k) => (k * 37 + 11) & 0xff);
  const view = new DataView(image.buffer);
  view.setUint16(0, 0x1272, true);
  view.setUint16(2, 0x2921, true);
  view.setUint32(24, 0x9fc0, true);
  image.fill(0, 512);
  view.setUint32(512, present, true);
  return image;
}
function machine(mode: "never" | "hot" | "always"): BareMachine {
  const m = new BareMachine(mode);
  m.machine.set32(State.cr4, m.machine.get32(State.cr4) | (1 << 18));
  m.machine.set32(State.xcr0, 3);
  return m;
}

/** Loads a state from one image, and saves what became of it into another place. */
function through(
  m: BareMachine,
  load: Operation,
  save: Operation,
  at: number,
  mask: number,
  present: number,
  wide: boolean,
) {
  m.load(at, patterned(present));
  const code = guest((a) => {
    // Twice each, so that the page is known by the second time.
    a.mov(rdi, at).mov(eax, mask).mov(edx, 0);
    for (let k = 0; k < 2; k++) emit(a, load, wide);
    a.mov(rsi, qword(rdi)).mov(byte(rdi, 300), 0x77);
    for (let k = 0; k < 2; k++) emit(a, save, wide);
    a.hlt();
  });
  m.load(CODE, code);
  assert.deepEqual(m.run(), HALTED);
  return imageAt(m, at);
}

describe("saved and restored state", () => {
  for (const mode of ["never", "always"] as const) {
    for (const [load, save] of [
      ["FXRSTOR", "FXSAVE"],
      ["XRSTOR", "XSAVE"],
    ] as const) {
      it(`is the same on one page and on two: ${load} (translate: ${mode})`, () => {
        for (const mask of [0, 1, 2, 3]) {
          for (const present of [0, 1, 2, 3]) {
            for (const wide of [false, true]) {
              const [one, two] = [WITHIN, ACROSS].map((at) =>
                through(machine(mode), load, save, at, mask, present, wide),
              );
              assert.deepEqual(one, two, `mask ${mask}, present ${present}, wide ${wide}`);
            }
          }
        }
      });
    }
  }

  inEveryMode("faults where the image is not aligned, or claims what is not enabled", (m) => {
    m.machine.set32(State.cr4, m.machine.get32(State.cr4) | (1 << 18));
    m.machine.set32(State.xcr0, 3);
    m.gate(13, 0x40000);
    m.load(
      0x40000,
      guest((a) => a.add(rsi, 1).db(0x48, 0x83, 0x44, 0x24, 8, 4).db(0x48, 0x83, 0xc4, 8).iret(), 0x40000),
    );
    m.load(WITHIN, patterned(4));
    m.setGpr(Gpr.rdi, WITHIN).setGpr(Gpr.rsi, 0);
    m.load(
      CODE,
      guest((a) => {
        a.mov(eax, 3).mov(edx, 0);
        // Not enabled; then each with an address that is 8 too far.
        emit(a, "XRSTOR", true).add(rdi, 8);
        emit(emit(emit(a, "XSAVE", true), "XRSTOR", true), "FXSAVE", true).hlt();
      }),
    );
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rsi), 4);
  });
});
