import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { ShutdownReason } from "../abi/sched.ts";
import { VcpuField, VcpuLife } from "../domain/layout.ts";
import { TestDomain } from "../testing/test-domain.ts";
import { pauseDomain, unpauseDomain } from "./pause.ts";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test("a pause stops every vcpu, running, halted or never started, until as many unpauses", {
  timeout: 20_000,
}, async () => {
  const guest = new TestDomain({ nrVcpus: 3 });
  const { domain } = guest;
  domain.vcpus[1].set(VcpuField.life, VcpuLife.online);
  // A word per vcpu that counts its runs; word 8 makes them halt.
  const flags = new Int32Array(new SharedArrayBuffer(64));
  const workers = domain.vcpus.map(({ id }) => {
    const workerData = { control: domain.buffer, memory: guest.memory.handle, vcpuId: id, flags };
    return new Worker(new URL("../testing/loop-worker.ts", import.meta.url), { workerData });
  });
  const ends = workers.map((worker) => once(worker, "message"));
  while (Atomics.load(flags, 0) === 0 || Atomics.load(flags, 1) === 0) await sleep(5);

  for (let round = 0; round < 20; round++) {
    // In odd rounds the vcpus are halted when the pause comes.
    Atomics.store(flags, 8, round & 1);
    await pauseDomain(domain);
    const counts = [...flags.subarray(0, 3)];
    if (round % 5 === 0) {
      await pauseDomain(domain);
      unpauseDomain(domain);
      await sleep(5);
    }
    assert.deepEqual([...flags.subarray(0, 3)], counts, "nobody runs");
    unpauseDomain(domain);
  }
  Atomics.store(flags, 8, 1);
  domain.shutDown(ShutdownReason.poweroff);
  assert.deepEqual((await Promise.all(ends)).flat(), [0, 0, 0]);
  assert.equal(Atomics.load(flags, 2), 0, "vcpu 2 never got a startup IPI");
  await Promise.all(workers.map((worker) => worker.terminate()));
});
