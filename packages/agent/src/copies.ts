/** Copies of a running domain. */
import type { DomainInfo, DomainSpec } from "@xenoserver/toolstack/control/index.ts";
import { removeSnapshot } from "@xenoserver/toolstack/snapshot/index.ts";
import { AgentError } from "./home.ts";
import type { Work } from "./operations/work.ts";
import { refuseShared, specOfSaved } from "./specs.ts";

export interface Copier {
  /** Writes the original to the file. */
  snapshot(): Promise<unknown>;
  make(spec: DomainSpec, name: string): Promise<DomainInfo>;
  destroy(copy: DomainInfo): Promise<unknown>;
}

/**
 * @param path  of a file that is there meanwhile
 * @throws AgentError, ControlError  there are no copies then
 */
export async function makeCopies(
  names: readonly string[],
  path: string,
  { report, signal }: Work,
  { snapshot, make, destroy }: Copier,
): Promise<DomainInfo[]> {
  try {
    await snapshot();
    const spec = await specOfSaved(path);
    refuseShared(spec);
    let madeCount = 0;
    const made = await Promise.allSettled(
      names.map(async (name) => {
        const copy = await make(spec, name);
        report({ kind: "fork", madeCount: ++madeCount, count: names.length });
        return copy;
      }),
    );
    const failed = made.find((result) => result.status === "rejected");
    const copies = made.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    if (failed === undefined && !signal.aborted) return copies;
    await Promise.all(copies.map(destroy));
    throw failed?.reason ?? new AgentError(409, "it was cancelled");
  } finally {
    await removeSnapshot(path);
  }
}
