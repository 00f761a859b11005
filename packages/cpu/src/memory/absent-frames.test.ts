import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Assembler, assemble, ecx, mem, rax, rbx, rdi } from "@xenoserver/testkit";
import { BareMachine, CODE, MODES } from "../testing/bare-machine.ts";
import type { DomainMemory } from "./domain-memory.ts";
import type { Frame } from "./guest-memory.ts";

const guest = (write: (a: Assembler) => void): Uint8Array => assemble(64, write, CODE);
const framesOf = (memory: DomainMemory): Uint8Array =>
  new Uint8Array(memory.memory.buffer, memory.layout.framesOffset, memory.frameCount * 4096);

/** Takes all frames out of a domain's memory. @returns what was fetched, in order */
function takeAway(memory: DomainMemory): number[] {
  const frames = framesOf(memory);
  const elsewhere = frames.slice();
  const fetched: number[] = [];
  for (let frame = 0; frame < memory.usedFrames; frame++) memory.absent.markAbsent(frame as Frame);
  // Whoever reads a frame without asking for it finds nonsense.
  frames.fill(0xf4);
  memory.absent.fetchFrom({
    read: (frame, into) => {
      fetched.push(frame);
      into.set(elsewhere.subarray(frame * 4096, frame * 4096 + 4096));
    },
  });
  return fetched;
}

/** Adds 1 to words of 256 pages from 2 MiB on, and sums up what it reads of 64 pages behind them. */
const scatter = guest((a) => {
  a.mov(rbx, 12345).xor(rax, rax);
  a.label("again");
  a.imul(rbx, rbx, 1103515245).add(rbx, 12345);
  a.mov(rdi, rbx).shr(rdi, 8).and(rdi, 0xff).shl(rdi, 12);
  a.add(mem(64, rdi, 0x200000), 1);
  a.and(rdi, 0x3f000).add(rax, mem(64, rdi, 0x300000));
  a.sub(ecx, 1).jcc("ne", "again");
  a.hlt();
});

describe("frames that are fetched when they are touched", () => {
  for (const mode of MODES) {
    it(`make no difference to a guest, its code and page tables among them (translate: ${mode})`, () => {
      const machines = [false, true].map((isLazy) => {
        const m = new BareMachine(mode);
        m.load(CODE, scatter);
        for (let page = 0; page < 64; page++)
          m.memory.write((0x300000 + page * 4096) as never, Uint8Array.of(page, 1, 2, 3));
        m.machine.setPair(1 * 8, 20_000, 0);
        const fetched = isLazy ? takeAway(m.memory) : [];
        m.run();
        return { m, fetched };
      });
      const [eager, lazy] = machines as [(typeof machines)[0], (typeof machines)[0]];
      assert.equal(lazy.m.gpr(0), eager.m.gpr(0));
      assert.equal(new Set(lazy.fetched).size, lazy.fetched.length, "each is fetched once");
      assert.ok(lazy.fetched.length > 320 && lazy.fetched.length < lazy.m.memory.usedFrames);
      for (let frame = 0; frame < lazy.m.memory.usedFrames; frame++)
        assert.ok(
          Buffer.from(lazy.m.memory.frameBytes(frame as Frame)).equals(eager.m.memory.frameBytes(frame as Frame)),
          `frame ${frame}`,
        );
      assert.equal(lazy.m.memory.absent.count, 0);
    });
  }

  it("stay absent, and end the guest, when they cannot be had", () => {
    const m = new BareMachine("never");
    m.load(
      CODE,
      guest((a) => a.mov(rax, mem(64, rdi, 0x200000)).hlt()),
    );
    const at = m.memory.frameAt(0x200 as never) as Frame;
    m.memory.absent.markAbsent(at);
    m.memory.absent.fetchFrom({
      read: () => {
        throw new Error("the file is gone");
      },
    });
    const exit = m.run();
    assert.match(exit.kind === "fault" ? exit.message : exit.kind, /the file is gone/);
    assert.throws(() => m.memory.frameBytes(at), /the file is gone/);
    m.memory.absent.fetchFrom({ read: (_, into) => into.fill(7) });
    assert.equal(m.memory.frameBytes(at)[0], 7);
  });
});
