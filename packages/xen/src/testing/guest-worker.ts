/** A guest's vcpu on a thread of its own, for tests: handles events until it is told to stop. */
import { parentPort, workerData } from "node:worker_threads";
import { DomainMemory } from "@xenoserver/cpu";
import { Domain } from "../domain/domain.ts";
import { FifoEvents, TwoLevelEvents } from "./guest-events.ts";

const { control, memory, abi, vcpuId } = workerData;
const stop: Int32Array = workerData.stop;
const domain = Domain.attach(control, DomainMemory.attach(memory));
const events = abi === "fifo" ? new FifoEvents(domain) : new TwoLevelEvents(domain);
const record = domain.vcpus[vcpuId];
const handled = new Map<number, number>();

function handleAll(): number {
  let count = 0;
  for (const port of events.handleUpcall(vcpuId)) {
    handled.set(port, (handled.get(port) ?? 0) + 1);
    count++;
  }
  return count;
}

parentPort!.postMessage("ready");
for (;;) {
  const seen = record.doorbell;
  if (handleAll() > 0) continue;
  if (Atomics.load(stop, 0) === 1) break;
  record.wait(seen, 100);
}
handleAll();
parentPort!.postMessage([...handled]);
