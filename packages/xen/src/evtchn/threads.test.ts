import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { EvtchnOp } from "../abi/event-channel.ts";
import { Hypercall } from "../abi/xen.ts";
import { FifoEvents } from "../testing/guest-events.ts";
import { SCRATCH, TestDomain } from "../testing/test-domain.ts";
import { HostEventChannels } from "./host.ts";
import { isPending } from "./send.ts";

const ROUNDS = 3000;
const PORTS = 5;

for (const abi of ["2-level", "fifo"]) {
  test(`${abi}: a guest on another thread hears the last notification of every channel`, {
    timeout: 30_000,
  }, async () => {
    const guest = new TestDomain({ nrVcpus: 1 });
    const { domain } = guest;
    if (abi === "fifo") {
      FifoEvents.setUp(
        domain,
        (n, a) => guest.hypercall(n, a),
        (at, w) => guest.poke(at, w),
        SCRATCH,
      );
    }
    const host = new HostEventChannels(domain);
    const ports = Array.from({ length: PORTS }, () => {
      guest.poke(SCRATCH, [0x7ff0, 0]);
      guest.hypercall(Hypercall.event_channel_op, [EvtchnOp.alloc_unbound, SCRATCH]);
      const port = guest.peek(SCRATCH + 4);
      guest.poke(SCRATCH, [port]);
      guest.hypercall(Hypercall.event_channel_op, [EvtchnOp.unmask, SCRATCH]);
      return port;
    });
    const channels = ports.map((port) => host.bindInterdomain(port, () => {})!);
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const workerData = { control: domain.buffer, memory: guest.memory.handle, abi, vcpuId: 0, stop };
    const worker = new Worker(new URL("../testing/guest-worker.ts", import.meta.url), { workerData });
    await once(worker, "message");

    for (let round = 0; round < ROUNDS; round++) {
      channels[round % PORTS].notify();
      if (round % 7 === 0) for (const channel of channels) channel.notify();
      if (round % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    while (ports.some((port) => isPending(domain, port))) await new Promise((resolve) => setTimeout(resolve, 1));
    Atomics.store(stop, 0, 1);
    domain.vcpus[0].ring();
    const [handled] = await once(worker, "message");
    assert.equal(new Map(handled).size, PORTS);
    await worker.terminate();
  });
}
