import assert from "node:assert/strict";
import { describe } from "node:test";
import { ecx, mem, rax, rbx, rdi, rsi } from "@xenoserver/testkit";
import { Gpr } from "./engine.ts";
import { State } from "./state/layout.ts";
import { BareMachine, CODE, STACK_TOP } from "./testing/bare-machine.ts";
import { guest, HALTED, inEveryMode } from "./testing/every-mode.ts";

const [ABSENT, PROGRAM, HANDLER, USER_STACK] = [0x50000, 0x30000, 0x40000, 0x58000];

/** A machine whose page faults halt it, with descriptors as operating systems write them. */
function withHandler(m: BareMachine): BareMachine {
  m.mapPage(ABSENT, ABSENT, 0);
  m.mapPage(PROGRAM, PROGRAM, 7);
  m.gate(14, HANDLER);
  return m.flatKernel().userDescriptors().load(HANDLER, Uint8Array.of(0xf4));
}
/** Error code, RIP, CS, RFLAGS, RSP and SS of the fault. */
function frameAt(m: BareMachine, at: number): number[] {
  const bytes = new Uint8Array(48);
  m.memory.read(at as never, bytes);
  const view = new DataView(bytes.buffer);
  return [0, 8, 16, 24, 32, 40].map((offset) => Number(view.getBigUint64(offset, true)));
}
/** Carry and whatever else `stc; sbb ecx, ecx` leaves: PF, AF, SF; the bit that is always set; RF of a fault. */
const FLAGS = 0x10097;

/** Reads from the absent page with known flags. */
const reads = (origin: number) => guest((a) => a.db(0xf9, 0x19, 0xc9).mov(rax, mem(64, rdi)).hlt(), origin);
const READ_AT = 3;

function faultInProgram(m: BareMachine, kernelStack: number): void {
  withHandler(m).load(PROGRAM, reads(PROGRAM)).setGpr(Gpr.rdi, ABSENT);
  m.enterUser(PROGRAM, USER_STACK).kernelStack(kernelStack);
  assert.deepEqual(m.run(), HALTED);
  assert.equal(m.machine.cpl, 0);
  assert.equal(m.machine.getAddress(State.cr2), ABSENT);
}

describe("page faults", () => {
  inEveryMode("of a kernel go on on its stack, aligned", (m) => {
    withHandler(m).load(CODE, reads(CODE)).setGpr(Gpr.rdi, ABSENT);
    m.setGpr(Gpr.rsp, STACK_TOP - 8);
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual(frameAt(m, STACK_TOP - 16 - 48), [0, CODE + READ_AT, 8, FLAGS, STACK_TOP - 8, 0]);
    assert.equal(m.gpr(Gpr.rsp), STACK_TOP - 16 - 48);
    assert.equal(m.machine.getAddress(State.cr2), ABSENT);
    assert.equal(m.machine.deliveries, 0, "it was delivered without the host program");
  });

  inEveryMode("of a program go on on the kernel's stack", (m) => {
    faultInProgram(m, 0x60008);
    assert.deepEqual(frameAt(m, 0x60000 - 48), [4, PROGRAM + READ_AT, 0x2b, FLAGS, USER_STACK, 0x23]);
    assert.equal(m.machine.get32(State.selector + 4), 8);
    assert.equal(m.machine.get32(State.selector + 8), 0);
    assert.equal(m.machine.deliveries, 0, "it was delivered without the host program");
  });

  inEveryMode("whose frame lies on two pages are delivered all the same", (m) => {
    faultInProgram(m, 0x60010);
    assert.deepEqual(frameAt(m, 0x60010 - 48), [4, PROGRAM + READ_AT, 0x2b, FLAGS, USER_STACK, 0x23]);
    assert.equal(m.machine.deliveries, 1);
  });

  inEveryMode("by a gate with a stack of its own are delivered there", (m) => {
    withHandler(m).load(CODE, reads(CODE)).setGpr(Gpr.rdi, ABSENT);
    m.gateStack(14, 0x70000);
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual(frameAt(m, 0x70000 - 48), [0, CODE + READ_AT, 8, FLAGS, STACK_TOP, 0]);
  });

  inEveryMode("without a stack to go to shut the vcpu down", (m) => {
    withHandler(m).load(PROGRAM, reads(PROGRAM)).setGpr(Gpr.rdi, ABSENT);
    m.enterUser(PROGRAM, USER_STACK).kernelStack(ABSENT + 0x800);
    assert.deepEqual(m.run(), { kind: "shutdown", reason: "triple-fault" });
  });
});

describe("INVLPG", () => {
  inEveryMode("makes a changed mapping seen, whatever the size of the page", (m) => {
    const [small, large] = [ABSENT, 0x200000];
    for (const [page, value] of [
      [0x60000, 1],
      [0x61000, 2],
      [0x200000, 4],
      [0x400000, 8],
    ] as const)
      m.memory.write(page as never, Uint8Array.of(value));
    m.mapPage(small, 0x60000);
    m.load(
      CODE,
      guest((a) => {
        a.mov(ecx, 20_000).mov(rbx, 0).mov(rsi, small).mov(rdi, large);
        a.label("again");
        for (const [entry, at, first, second] of [
          [BareMachine.entryOf(small), rsi, 0x60003, 0x61003],
          [0x3008, rdi, 0x200083, 0x400083],
        ] as const) {
          for (const to of [second, first]) {
            a.mov(rax, entry).mov(mem(32, rax), to);
            a.db(0x0f, 0x01, at === rsi ? 0x3e : 0x3f); // invlpg [rsi] or [rdi]
            a.mov(rax, mem(64, at)).add(rbx, rax);
          }
        }
        a.sub(ecx, 1).jcc("ne", "again").hlt();
      }),
    );
    assert.deepEqual(m.run(5000), HALTED);
    assert.equal(m.gpr(Gpr.rbx), 20_000 * 15);
    assert.equal(m.gpr(Gpr.rcx), 0);
  });
});

describe("a change of page tables", () => {
  inEveryMode("drops what the old ones said of data and code, and finds it again when they come back", (m) => {
    const [data, code, tables] = [ABSENT, 0x60000, 0x70000];
    // The same tables but for two pages: data that is 1 or 2, and a function that returns 4 or 8.
    const copy = new Uint8Array(0x4000);
    m.memory.read(0x1000 as never, copy);
    m.load(tables, copy);
    const write = (at: number, value: number) =>
      m.memory.write(at as never, new Uint8Array(Uint32Array.of(value, 0).buffer));
    for (const level of [0, 1, 2]) write(tables + level * 0x1000, tables + (level + 1) * 0x1000 + 7);
    write(tables + 0x3000 + (data / 4096) * 8, 0x52003);
    write(tables + 0x3000 + (code / 4096) * 8, 0x62003);
    m.memory.write(data as never, Uint8Array.of(1));
    m.memory.write(0x52000 as never, Uint8Array.of(2));
    m.load(code, Uint8Array.of(0xb8, 4, 0, 0, 0, 0xc3)); // mov eax, 4; ret
    m.load(0x62000, Uint8Array.of(0xb8, 8, 0, 0, 0, 0xc3));
    m.load(
      CODE,
      guest((a) => {
        a.mov(ecx, 10_000).mov(rbx, 0).mov(rsi, data).mov(rdi, code);
        a.label("again");
        for (const to of [tables, 0x1000]) {
          a.mov(rax, to).db(0x0f, 0x22, 0xd8); // mov cr3, rax
          a.mov(rax, mem(64, rsi)).add(rbx, rax).call(rdi).add(rbx, rax);
        }
        a.sub(ecx, 1).jcc("ne", "again").hlt();
      }),
    );
    assert.deepEqual(m.run(5000), HALTED);
    assert.equal(m.gpr(Gpr.rbx), 10_000 * 15);
  });
});
