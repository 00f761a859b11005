/** Several accesses to what is one page as a rule, where it is not. */
import assert from "node:assert/strict";
import { describe } from "node:test";
import { addressOf, eax, mem, rax, rbp, rbx, rcx, rdx, rsi, rsp } from "@xenoserver/testkit";
import { Gpr } from "./engine.ts";
import { State } from "./state/layout.ts";
import { BareMachine, CODE, STACK_TOP } from "./testing/bare-machine.ts";
import { guest, HALTED, inEveryMode } from "./testing/every-mode.ts";

const [FIRST, SECOND, HANDLER] = [0x50000, 0x51000, 0x40000];
/** From one stored value to the next: both halves change. */
const STEP = 2 ** 32 + 1;
const ACCESSED = 0x20;
const DIRTY = 0x40;

function words(m: BareMachine, at: number, count: number): number[] {
  const bytes = new Uint8Array(count * 8);
  m.memory.read(at as never, bytes);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: count }, (_, k) => Number(view.getBigUint64(k * 8, true)));
}
const entryOf = (m: BareMachine, va: number): number => words(m, BareMachine.entryOf(va), 1)[0] & 0xfff;

/** Four stores in a row, from RBX on. */
const stores = guest((a) => {
  for (let k = 0; k < 4; k++) a.mov(mem(64, rbx, k * 8), rax).add(rax, 1);
  a.hlt();
});
/** Where the third one is. */
const THIRD = CODE + 3 + 4 + 4 + 4;

describe("accesses that share a look into the TLB", () => {
  inEveryMode("and lie on two pages", (m) => {
    m.mapPage(SECOND, 0x60000);
    m.load(CODE, stores)
      .setGpr(Gpr.rbx, SECOND - 20)
      .setGpr(Gpr.rax, 5);
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual(words(m, SECOND - 20, 2), [5, 6]);
    // The third lies on both pages.
    assert.deepEqual(words(m, SECOND - 4, 1)[0] % 2 ** 32, 7);
    assert.deepEqual(words(m, 0x60004, 1), [8]);
  });

  for (const [what, distance] of [
    ["none of them on both", 16],
    ["one of them on both", 20],
    ["all on the first", 32],
    ["all on the second", 0],
  ] as const)
    inEveryMode(`and lie on two pages again and again, ${what}`, (m) => {
      m.mapPage(SECOND, 0x60000);
      const code = guest((a) => {
        a.mov(rcx, 3).label("again");
        for (let k = 0; k < 4; k++) a.mov(mem(64, rbx, k * 8), rax).add(rax, rsi);
        for (let k = 0; k < 4; k++) a.add(rdx, mem(64, rbx, k * 8));
        a.sub(rcx, 1).jcc("nz", "again").hlt();
      });
      m.load(CODE, code)
        .setGpr(Gpr.rbx, SECOND - distance)
        .setGpr(Gpr.rax, STEP)
        .setGpr(Gpr.rsi, STEP)
        .setGpr(Gpr.rdx, 0);
      assert.deepEqual(m.run(), HALTED);
      const stored = new Uint8Array(32);
      m.memory.read((SECOND - distance) as never, stored.subarray(0, distance));
      m.memory.read(0x60000 as never, stored.subarray(distance));
      const view = new DataView(stored.buffer);
      assert.deepEqual(
        [0, 8, 16, 24].map((at) => Number(view.getBigUint64(at, true))),
        [9, 10, 11, 12].map((n) => n * STEP),
      );
      assert.equal(m.gpr(Gpr.rdx), ((12 * 13) / 2) * STEP);
    });

  inEveryMode("fault where the second page is not there, with all before done", (m) => {
    m.mapPage(SECOND, SECOND, 0);
    m.gate(14, HANDLER);
    m.flatKernel().load(HANDLER, Uint8Array.of(0xf4));
    m.load(CODE, stores)
      .setGpr(Gpr.rbx, SECOND - 16)
      .setGpr(Gpr.rax, 5)
      .setGpr(Gpr.rsp, STACK_TOP);
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual(words(m, SECOND - 16, 2), [5, 6]);
    assert.equal(m.gpr(Gpr.rax), 7);
    assert.deepEqual(words(m, STACK_TOP - 48, 2), [2, THIRD]);
    assert.equal(m.machine.getAddress(State.cr2), SECOND);
  });

  inEveryMode("read a page that may not be written, and fault at the first write", (m) => {
    m.mapPage(FIRST, FIRST, 1);
    m.gate(14, HANDLER);
    m.flatKernel().load(HANDLER, Uint8Array.of(0xf4));
    const code = guest((a) => {
      a.mov(rcx, mem(64, rbx))
        .mov(rdx, mem(64, rbx, 8))
        .mov(mem(64, rbx, 16), rcx)
        .mov(mem(64, rbx, 24), rcx)
        .hlt();
    });
    m.load(FIRST, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 2))
      .load(CODE, code)
      .setGpr(Gpr.rbx, FIRST);
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual([m.gpr(Gpr.rcx), m.gpr(Gpr.rdx)], [1, 2]);
    assert.deepEqual(words(m, STACK_TOP - 48, 2), [3, CODE + 7]);
    assert.equal(entryOf(m, FIRST) & (ACCESSED | DIRTY), ACCESSED);
  });

  inEveryMode("read what a device answers, one by one", (m) => {
    m.mapPage(FIRST, 0x7000_0000);
    m.load(
      CODE,
      guest((a) =>
        a
          .mov(eax, mem(32, rbx))
          .add(eax, mem(32, rbx, 4))
          .mov(mem(32, rbx, 8), eax)
          .hlt(),
      ),
    );
    m.setGpr(Gpr.rbx, FIRST);
    assert.deepEqual(m.run(), { kind: "mmio-read", gpa: 0x7000_0000, sizeBytes: 4 });
    m.vcpu.completeMmioRead(41, 0);
    assert.deepEqual(m.run(), { kind: "mmio-read", gpa: 0x7000_0004, sizeBytes: 4 });
    m.vcpu.completeMmioRead(2, 0);
    assert.deepEqual(m.run(), { kind: "mmio-write", gpa: 0x7000_0008, sizeBytes: 4, lo: 43, hi: 0 });
    assert.deepEqual(m.run(), HALTED);
  });

  inEveryMode("change the code that comes next", (m) => {
    const code = guest((a) => {
      a.mov(rbx, addressOf("next"))
        .mov(mem(8, rbx, 1), 7)
        .mov(mem(8, rbx, 6), 9)
        .jmp("next");
      a.label("next").mov(eax, 1).db(0xb9, 2, 0, 0, 0).hlt();
    });
    m.load(CODE, code);
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual([m.gpr(Gpr.rax), m.gpr(Gpr.rcx)], [7, 9]);
  });

  inEveryMode("go through pointers that were made from one another", (m) => {
    const code = guest((a) => {
      a.mov(rax, 1).push(rax).add(rax, 1).push(rax).mov(rbp, rsp).sub(rsp, 16);
      a.mov(mem(64, rsp, 8), rax)
        .lea(rsi, mem(64, rbp, 8))
        .add(rax, mem(64, rsi))
        .mov(mem(64, rbp, -16), rax);
      a.pop(rcx).pop(rdx).pop(rbx).pop(rsi).hlt();
    });
    m.load(CODE, code);
    assert.deepEqual(m.run(), HALTED);
    assert.deepEqual(
      [Gpr.rcx, Gpr.rdx, Gpr.rbx, Gpr.rsi].map((r) => m.gpr(r)),
      [3, 2, 2, 1],
    );
    assert.equal(m.gpr(Gpr.rsp), STACK_TOP);
  });
});
