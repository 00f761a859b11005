import "../semantics/index.ts";
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Assembler, assemble, ecx, edx, mem, rax, rbx, rdx } from "@xenoserver/testkit";
import { Decoder } from "../decode/decoder.ts";
import { Gpr } from "../engine.ts";
import type { CodeCache } from "../interp/code-cache.ts";
import { Slot } from "../state/layout.ts";
import { BareMachine, CODE } from "../testing/bare-machine.ts";
import { guest, HALTED } from "../testing/every-mode.ts";
import { findRegion, type Region } from "./region.ts";

/** A function that calls another in a loop, and that other. */
const LOOP = (a: Assembler): void => {
  a.label("again").add(rbx, 1).call("callee");
  a.sub(ecx, 1).jcc("ne", "again").ret();
  a.align(0x40).label("callee").add(rax, rdx).ret();
};
const [AGAIN, BEHIND, CALLEE] = [0, 9, 0x40] as const;

function regionOf(write: (a: Assembler) => void, isTaken: (place: number) => boolean, entry = 0): Region {
  const page = new Uint8Array(4096);
  page.set(assemble(64, write, 0));
  const source = { page: (distance: number) => (distance === 0 ? page : undefined), wasReached: () => true, isTaken };
  const region = findRegion(source, entry, new Decoder());
  assert.ok(region);
  return region;
}
const placesOf = ({ blocks }: Region): number[] => blocks.map(({ start }) => start);

describe("a region", () => {
  it("is entered where calls return to, where loops begin, and where it calls", () => {
    const { entries } = regionOf(LOOP, () => false);
    assert.deepEqual(entries, [AGAIN, CALLEE, BEHIND]);
  });
  it("leaves to other regions what they have, and goes on where that returns to", () => {
    const region = regionOf(LOOP, (place) => place === CALLEE);
    assert.deepEqual(region.entries, [AGAIN, BEHIND]);
    assert.ok(!placesOf(region).includes(CALLEE));
    assert.ok(placesOf(region).includes(BEHIND));
  });
  it("starts at a place that others have too, if that is asked for", () => {
    assert.equal(regionOf(LOOP, (place) => place === CALLEE, CALLEE).entries[0], CALLEE);
  });
});

/** Of what the vcpu has translated. */
const reachAt = (m: BareMachine, address: number): string | undefined => {
  const { cache } = m.vcpu as unknown as { cache: CodeCache };
  return cache.reachAt(m.memory.frameAt(Math.floor(address / 4096) as never), address % 4096);
};

describe("a function with a region", () => {
  /** Enough for a region, and for one of its own. */
  const [FIRST, CALLS] = [4_000_000, 16_000_000];
  const callee = 0x20000;
  const [loopAt, behindCall] = [CODE + 0x40, CODE + 0x4d];
  // Adds its immediate as often as EDX says.
  const counting = guest((a) => a.label("again").add(rbx, 1).sub(edx, 1).jcc("ne", "again").ret(), callee);
  const loop = guest((a) => {
    a.equate("callee", callee);
    a.mov(rbx, 0).mov(edx, FIRST).call("callee");
    a.mov(ecx, CALLS).jmp("again");
    a.align(0x40).label("again").mov(edx, ecx).and(edx, 3).add(edx, 1).call("callee");
    a.sub(ecx, 1).jcc("ne", "again").hlt();
  });

  it("serves the loop that calls it until that stays hot; its changes reach both", () => {
    const m = new BareMachine("hot").load(callee, counting).load(CODE, loop);
    assert.deepEqual(m.run(10_000), HALTED);
    assert.equal(m.gpr(Gpr.rbx), FIRST + CALLS * 2.5);
    assert.equal(reachAt(m, behindCall), "own");
    // Once more, with a guest that makes it add 2.
    const patching = 0x30000;
    m.load(
      patching,
      guest((a) => {
        a.mov(rbx, 0).mov(rax, callee);
        a.mov(mem(8, rax, 3), 2);
        a.mov(ecx, 1000).mov(rax, loopAt).jmp(rax);
      }, patching),
    );
    m.machine.setAddress(Slot.rip, patching);
    assert.deepEqual(m.run(10_000), HALTED);
    assert.equal(m.gpr(Gpr.rbx), 1000 * 2.5 * 2);
    assert.equal(reachAt(m, callee), undefined);
  });
});
