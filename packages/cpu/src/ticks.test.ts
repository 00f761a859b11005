import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Assembler, assemble, ecx, mem, rsp } from "@xenoserver/testkit";
import { BareMachine, CODE, MODES } from "./testing/bare-machine.ts";

const HANDLER = 0x20000;
/** A guest that never had a tick would end after so many rounds; ticks are some ten thousand instructions apart. */
const ROUNDS = 300_000;

/** What a guest does that leaves generated code again and again, after a few instructions each time. */
const LEAVING: Readonly<Record<string, (a: Assembler) => void>> = {
  "reads the time": (a) => a.rdtsc(),
  "faults, and returns from the fault": (a) => a.ud2(),
};

describe("ticks come to a guest that", () => {
  for (const [what, leave] of Object.entries(LEAVING)) {
    for (const mode of MODES) {
      it(`${what} (translate: ${mode})`, () => {
        const m = new BareMachine(mode);
        m.gate(6, HANDLER);
        m.load(
          HANDLER,
          assemble(64, (a) => a.add(mem(64, rsp), 2).iret(), HANDLER),
        );
        m.load(
          CODE,
          assemble(
            64,
            (a) => {
              a.mov(ecx, ROUNDS);
              a.label("again");
              leave(a);
              a.sub(ecx, 1).jcc("ne", "again");
              a.hlt();
            },
            CODE,
          ),
        );
        for (let tick = 0; tick < 5; tick++) assert.deepEqual(m.engine.run(m.vcpu), { kind: "preempted" });
      });
    }
  }
});
