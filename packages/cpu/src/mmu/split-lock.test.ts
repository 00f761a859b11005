import assert from "node:assert/strict";
import { it } from "node:test";
import { Worker } from "node:worker_threads";
import { type Assembler, assemble, ecx, mem, rdi } from "@xenoserver/testkit";
import { BareMachine, CODE, MODES, type Translate } from "../testing/bare-machine.ts";
import type { WriterThreadData } from "../testing/writer-thread.ts";

const ROUNDS = 20_000;
const DATA = 0x100000;

/** Runs the same program on two processors at the same time, until both halt. */
async function runBoth(mode: Translate, write: (a: Assembler) => void): Promise<BareMachine> {
  const first = new BareMachine(mode, 2);
  const machines = [first, new BareMachine(mode, 2, first)];
  first.load(
    CODE,
    assemble(64, (a) => write(a), CODE),
  );
  const workers = machines.map((m, vcpuId) => {
    const state = new SharedArrayBuffer(4);
    const workerData: WriterThreadData = { memory: m.memory.handle, state, vcpuId, translate: mode };
    return new Worker(new URL("../testing/writer-thread.ts", import.meta.url), { workerData });
  });
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.on("exit", resolve))));
  return first;
}

function valueAt(m: BareMachine, at: number, width: number): number {
  const bytes = new Uint8Array(8);
  assert.ok(m.memory.read(at as never, bytes.subarray(0, width)));
  return Number(new DataView(bytes.buffer).getBigUint64(0, true));
}

/** Aligned, within eight bytes, over two groups of eight, over two cache lines, over two pages. */
const PLACES = [0x0000, 0x4001, 0x8005, 0xc03e, 0x10ffe];
const SUM = 2 * ROUNDS;

for (const mode of MODES) {
  it(`locked operations of two processors lose nothing wherever they lie (translate: ${mode})`, async () => {
    const m = await runBoth(mode, (a) => {
      a.mov(rdi, DATA).mov(ecx, ROUNDS);
      a.label("again");
      // Carries go from each byte of an operand into the next.
      for (const place of PLACES) {
        a.lock().add(mem(32, rdi, place), 0xff);
        a.lock().add(mem(64, rdi, place + 0x2000), 0x7ff);
      }
      // Operands that overlap in part.
      a.lock().add(mem(32, rdi, 0x20006), 1);
      a.lock().add(mem(64, rdi, 0x20000), 1);
      a.lock().add(mem(16, rdi, 0x2000b), 1);
      a.sub(ecx, 1).jcc("ne", "again");
      a.hlt();
    });
    for (const place of PLACES) {
      assert.equal(valueAt(m, DATA + place, 4), SUM * 0xff, `at 0x${place.toString(16)}`);
      assert.equal(valueAt(m, DATA + place + 0x2000, 8), SUM * 0x7ff, `at 0x${place.toString(16)}`);
    }
    assert.equal(valueAt(m, DATA + 0x20000, 4), SUM);
    assert.equal(valueAt(m, DATA + 0x20006, 2), SUM & 0xffff);
    assert.equal(valueAt(m, DATA + 0x2000b, 2), SUM & 0xffff);
  });
}
