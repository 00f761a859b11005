import type { DomainSpec } from "../cfg/index.ts";
import { DomainProcess, type ProcessPlace } from "./domain-process.ts";

/** Domains' processes that a test started, to be removed together. */
export class StartedProcesses {
  readonly #started: DomainProcess[] = [];

  start(spec: DomainSpec, changes = {}, place: ProcessPlace = {}): DomainProcess {
    const domain = DomainProcess.start(spec, changes, place);
    this.#started.push(domain);
    return domain;
  }

  async remove(): Promise<void> {
    await Promise.all(this.#started.splice(0).map((domain) => domain.remove()));
  }
}
