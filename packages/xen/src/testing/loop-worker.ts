/** Runs a vcpu's loop on a thread of its own, for tests: the guest counts its ticks and halts when told to. */
import { parentPort, workerData } from "node:worker_threads";
import { DomainMemory, type Exit } from "@xenoserver/cpu";
import { Domain } from "../domain/domain.ts";
import { runVcpu } from "../vcpu/run.ts";
import { FakeVcpu } from "./fake-vcpu.ts";

const { control, memory, vcpuId } = workerData;
const flags: Int32Array = workerData.flags;
const domain = Domain.attach(control, DomainMemory.attach(memory));
const vcpu = new FakeVcpu(vcpuId, domain.memory);

const reason = runVcpu({
  engine: {
    run: (): Exit => {
      Atomics.add(flags, vcpuId, 1);
      return Atomics.load(flags, 8) === 1 ? { kind: "halt" } : { kind: "preempted" };
    },
    kick: () => {},
    flushPhysmap: () => {},
  },
  vcpu,
  domain,
  start: () => {},
  log: () => {},
});
parentPort!.postMessage(reason);
