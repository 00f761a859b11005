/** An engine that does what a test says instead of running code. */
import type { Exit, Vcpu, VcpuEngine } from "@xenoserver/cpu";
import type { FakeVcpu } from "./fake-vcpu.ts";

/** What happens in one call of `run`: an exit, perhaps after changing the vcpu. */
export type Step = Exit | ((vcpu: FakeVcpu) => Exit);

export class ScriptedEngine implements VcpuEngine {
  readonly #steps: Step[];
  flushes = 0;
  runs = 0;

  constructor(steps: readonly Step[]) {
    this.#steps = [...steps];
  }

  run(vcpu: Vcpu): Exit {
    this.runs++;
    const step = this.#steps.shift();
    if (step === undefined) return { kind: "fault", message: "the script is at its end" };
    return typeof step === "function" ? step(vcpu as FakeVcpu) : step;
  }

  kick(): void {}

  flushPhysmap(): void {
    this.flushes++;
  }
}
