import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { type Assembler, assemble, ecx, mem, rax, rbx, rdi } from "@xenoserver/testkit";
import { BareMachine, CODE, MODES } from "../testing/bare-machine.ts";
import type { WriterThreadData } from "../testing/writer-thread.ts";
import { DirtyLog } from "./dirty-log.ts";
import type { DomainMemory } from "./domain-memory.ts";

/** Vcpus of these tests run in this thread, so that none runs while a round ends. */
const resting = () => true;
const guest = (write: (a: Assembler) => void): Uint8Array => assemble(64, write, CODE);

/** Frames whose bytes differ from what they were. */
function changedFrames(memory: DomainMemory, before: Uint8Array): number[] {
  const now = framesOf(memory);
  const changed: number[] = [];
  for (let frame = 0; frame < memory.frameCount; frame++) {
    const at = frame * 4096;
    if (Buffer.compare(now.subarray(at, at + 4096), before.subarray(at, at + 4096)) !== 0) changed.push(frame);
  }
  return changed;
}
const framesOf = (memory: DomainMemory): Uint8Array =>
  new Uint8Array(memory.memory.buffer, memory.layout.framesOffset, memory.frameCount * 4096);

/** A guest that for ever adds 1 to a word of a page that a linear congruence chooses among 256, from 2 MiB on. */
const scatter = guest((a) => {
  a.mov(rbx, 12345);
  a.label("again");
  a.imul(rbx, rbx, 1103515245).add(rbx, 12345);
  a.mov(rdi, rbx).shr(rdi, 8).and(rdi, 0xff).shl(rdi, 12);
  a.add(mem(64, rdi, 0x200000), 1);
  a.sub(ecx, 1).jcc("ne", "again");
  a.hlt();
});

describe("the dirty log", () => {
  for (const mode of MODES) {
    it(`tells every frame that changed in a round, and few others (translate: ${mode})`, async () => {
      const m = new BareMachine(mode);
      const log = new DirtyLog(m.memory);
      m.load(CODE, scatter);
      m.machine.setPair(1 * 8, 100_000, 0);
      m.run();
      await log.start(resting);
      for (const rounds of [1, 7, 40, 3000]) {
        const before = framesOf(m.memory).slice();
        m.machine.setAddress(200, CODE);
        m.machine.setPair(1 * 8, rounds, 0);
        m.run();
        const told = await log.collect(resting);
        const changed = changedFrames(m.memory, before);
        assert.deepEqual(
          changed.filter((frame) => !told.includes(frame as never)),
          [],
          `after ${rounds} stores`,
        );
        // Page tables may be told although their bits were set before.
        assert.ok(told.length <= changed.length + 4, `${told.length} told, ${changed.length} changed`);
      }
      assert.deepEqual(await log.collect(resting), []);
    });
  }

  it("notes what the host and the guest's other ways of writing change", async () => {
    const m = new BareMachine("hot");
    const log = new DirtyLog(m.memory);
    await log.start(resting);
    await log.collect(resting);
    m.memory.write(0x300000 as never, Uint8Array.of(1));
    assert.deepEqual(await log.collect(resting), [m.memory.frameAt(0x300 as never)]);
    // A store across two pages, an atomic one, and a block of them.
    const code = guest((a) => {
      a.mov(rdi, 0x400ffc).mov(mem(64, rdi), rax);
      a.mov(rdi, 0x402000).lock().add(mem(64, rdi), 1);
      a.mov(rdi, 0x404000)
        .mov(ecx, 0x2000 / 8)
        .db(0xf3, 0x48, 0xab);
      a.hlt();
    });
    m.load(CODE, code);
    m.run();
    const told = await log.collect(resting);
    for (const gfn of [0x400, 0x401, 0x402, 0x404, 0x405])
      assert.ok(told.includes(m.memory.frameAt(gfn as never) as never), `page ${gfn.toString(16)}`);
  });

  it("says nothing of stores before it starts, and nothing after it stops", async () => {
    const m = new BareMachine("hot");
    const log = new DirtyLog(m.memory);
    m.load(CODE, scatter);
    m.machine.setPair(1 * 8, 1000, 0);
    m.run();
    await log.start(resting);
    assert.deepEqual(await log.collect(resting), []);
    log.stop();
    m.machine.setAddress(200, CODE);
    m.machine.setPair(1 * 8, 100, 0);
    m.run();
    assert.ok((await log.collect(resting)).length <= 2);
  });

  it("misses nothing while a vcpu runs: a copy made round by round is the memory in the end", async () => {
    const m = new BareMachine("hot");
    m.load(CODE, scatter);
    m.machine.setPair(1 * 8, 0, 0);
    const shared = new SharedArrayBuffer(4);
    const state = new Int32Array(shared);
    const workerData: WriterThreadData = { memory: m.memory.handle, state: shared };
    const worker = new Worker(new URL("../testing/writer-thread.ts", import.meta.url), { workerData });
    await Atomics.waitAsync(state, 0, 0).value;
    const log = new DirtyLog(m.memory);
    const running = () => Atomics.load(state, 0) !== 1;
    await log.start(running);
    const live = framesOf(m.memory);
    const copy = live.slice();
    const copyFrames = (frames: readonly number[]) => {
      for (const frame of frames) copy.set(live.subarray(frame * 4096, frame * 4096 + 4096), frame * 4096);
    };
    let told = 0;
    for (let round = 0; round < 60; round++) {
      const frames = await log.collect(running);
      told += frames.length;
      copyFrames(frames);
    }
    Atomics.store(state, 0, 2);
    await Atomics.waitAsync(state, 0, 2).value;
    copyFrames(await log.collect(resting));
    assert.ok(told > 60, "the guest wrote while rounds were collected");
    assert.equal(Buffer.compare(copy, live), 0);
    await worker.terminate();
  });
});
