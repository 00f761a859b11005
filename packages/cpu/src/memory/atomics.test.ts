import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { type Assembler, assemble, mem, rdi } from "@xenoserver/testkit";
import { BareMachine, CODE } from "../testing/bare-machine.ts";
import type { WriterThreadData } from "../testing/writer-thread.ts";

const WORDS = 0x70004;
/** Where the guest counts its rounds, and how many it must make meanwhile. */
const ROUNDS = { offset: 0x7c, least: 300_000 } as const;

/**
 * Runs a guest on another thread while this one adds to the 32-bit word behind the one that the guest changes.
 * @returns how many of the additions are missing in the end
 */
async function lostBeside(write: (a: Assembler) => void): Promise<number> {
  const m = new BareMachine("hot");
  m.load(CODE, assemble(64, write, CODE));
  const shared = new SharedArrayBuffer(4);
  const state = new Int32Array(shared);
  const workerData: WriterThreadData = { memory: m.memory.handle, state: shared };
  const worker = new Worker(new URL("../testing/writer-thread.ts", import.meta.url), { workerData });
  await Atomics.waitAsync(state, 0, 0).value;
  const frame = m.memory.frameAt((WORDS >> 12) as never);
  const at = m.memory.layout.framesOffset + frame * 4096 + (WORDS & 0xfff) + 4;
  const words = new Int32Array(m.memory.memory.buffer);
  let added = 0;
  const rounds = () => Atomics.load(words, (at - 4 + ROUNDS.offset) >>> 2);
  while (rounds() < ROUNDS.least) for (let n = 0; n < 1000; n++, added++) Atomics.add(words, at >>> 2, 1);
  const lost = (added - Atomics.load(words, at >>> 2)) | 0;
  Atomics.store(state, 0, 2);
  await Atomics.waitAsync(state, 0, 2).value;
  await worker.terminate();
  return lost;
}

test("a locked 64-bit change of a bit in one word loses nothing of the next word", async () => {
  // Linux clears the pending bit of a FIFO event word so; the hypervisor sets the next event's at the same time.
  const lost = await lostBeside((a) => {
    a.mov(rdi, WORDS).label("again");
    a.lock().bts(mem(64, rdi), 3).lock().btr(mem(64, rdi), 3);
    a.add(mem(32, rdi, ROUNDS.offset), 1).jmp("again");
  });
  assert.equal(lost, 0);
});
