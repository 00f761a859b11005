/** Parts of the processor that an operating system switches off to be told of their next use. */
import assert from "node:assert/strict";
import { describe } from "node:test";
import { addressOf, rdi, rdx, rsi } from "@xenoserver/testkit";
import { Gpr } from "./engine.ts";
import { State } from "./state/layout.ts";
import { CODE, STACK_TOP } from "./testing/bare-machine.ts";
import { guest, HALTED, inEveryMode } from "./testing/every-mode.ts";

const [DATA, HANDLER] = [0x50000, 0x40000];
const MOVUPS_XMM0 = [0x0f, 0x10, 0x03]; // from [RBX]
const MOVUPS_XMM1 = [0x0f, 0x10, 0x0b];
const PADDB_MM0 = [0x0f, 0xfc, 0xc0];
const FLD1 = [0xd9, 0xe8];
const CR0_TO_RAX = [0x0f, 0x20, 0xc0];
const RAX_TO_CR0 = [0x0f, 0x22, 0xc0];
const CR4_TO_RAX = [0x0f, 0x20, 0xe0];
const RAX_TO_CR4 = [0x0f, 0x22, 0xe0];
const OR_AL_TS = [0x0c, 0x08];
const AND_AH_NOT_OSFXSR = [0x80, 0xe4, 0xfd];
/** Counts in RCX and goes on. */
const CLTS_AND_RETURN = Uint8Array.of(0x48, 0xff, 0xc1, 0x0f, 0x06, 0x48, 0xcf);

describe("a unit that is switched off", () => {
  inEveryMode("is told of at its next use, once", (m) => {
    m.gate(7, HANDLER);
    m.flatKernel().load(HANDLER, CLTS_AND_RETURN);
    m.load(DATA, Uint8Array.of(1, 2, 3, 4)).load(
      CODE,
      guest((a) =>
        a
          .db(...MOVUPS_XMM0, ...CR0_TO_RAX, ...OR_AL_TS, ...RAX_TO_CR0)
          .db(...MOVUPS_XMM1, ...MOVUPS_XMM0)
          .db(...PADDB_MM0, ...FLD1)
          .hlt(),
      ),
    );
    m.setGpr(Gpr.rbx, DATA).setGpr(Gpr.rcx, 0).setGpr(Gpr.rsp, STACK_TOP);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rcx), 1);
    assert.equal(m.machine.get32(State.xmm + 16), 0x04030201);
  });

  for (const [name, use] of [
    ["MMX", PADDB_MM0],
    ["x87", FLD1],
  ] as const)
    inEveryMode(`is told of at its next use, be it ${name}`, (m) => {
      m.gate(7, HANDLER);
      m.flatKernel().load(HANDLER, CLTS_AND_RETURN);
      m.load(
        CODE,
        guest((a) =>
          a
            .db(...use, ...CR0_TO_RAX, ...OR_AL_TS, ...RAX_TO_CR0)
            .db(...use, ...use)
            .hlt(),
        ),
      );
      m.setGpr(Gpr.rcx, 0).setGpr(Gpr.rsp, STACK_TOP);
      assert.deepEqual(m.run(), HALTED);
      assert.equal(m.gpr(Gpr.rcx), 1);
    });

  inEveryMode("is told of where control comes by a way on which nothing was looked at", (m) => {
    m.gate(7, HANDLER);
    m.flatKernel().load(HANDLER, CLTS_AND_RETURN);
    m.load(
      CODE,
      guest((a) => {
        // Twice, and by a look-up: what is new runs on in the trace that led there.
        a.mov(rsi, 2).mov(rdi, addressOf("begin"));
        a.label("again")
          .db(...CR0_TO_RAX, ...OR_AL_TS, ...RAX_TO_CR0)
          .jmp(rdi);
        a.label("begin")
          .test(rdx, rdx)
          .jcc("z", "later")
          .db(...MOVUPS_XMM0);
        a.label("later")
          .db(...MOVUPS_XMM1)
          .sub(rsi, 1)
          .jcc("nz", "again")
          .hlt();
      }),
    );
    m.setGpr(Gpr.rbx, DATA).setGpr(Gpr.rcx, 0).setGpr(Gpr.rdx, 0).setGpr(Gpr.rsp, STACK_TOP);
    assert.deepEqual(m.run(), HALTED);
    assert.equal(m.gpr(Gpr.rcx), 2);
  });

  inEveryMode("is unknown if the system never enabled it", (m) => {
    m.gate(6, HANDLER);
    m.flatKernel().load(HANDLER, Uint8Array.of(0xf4));
    const before = [...MOVUPS_XMM0, ...CR4_TO_RAX, ...AND_AH_NOT_OSFXSR, ...RAX_TO_CR4];
    m.load(
      CODE,
      guest((a) =>
        a
          .db(...before)
          .db(...MOVUPS_XMM1)
          .hlt(),
      ),
    );
    m.setGpr(Gpr.rbx, DATA).setGpr(Gpr.rsp, STACK_TOP);
    assert.deepEqual(m.run(), HALTED);
    const pushed = new Uint8Array(8);
    m.memory.read((STACK_TOP - 40) as never, pushed);
    assert.equal(new DataView(pushed.buffer).getUint32(0, true), CODE + before.length);
  });
});
