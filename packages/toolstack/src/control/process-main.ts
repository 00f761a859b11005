/** What a domain's own process does; see process-folder.ts. */
import { join } from "node:path";
import { ArrivingDomain, awaitArrival } from "../migrate/index.ts";
import type { SavedFile } from "../save/index.ts";
import { openSaved } from "../snapshot/index.ts";
import { type HostedDomain, hostDomain, logLine, specIn, tellFailure } from "./hosting.ts";
import { ARRIVAL_FILE } from "./process-folder.ts";

/** @param folder  with its spec */
export async function main(folder: string): Promise<void> {
  // A terminal that closes, or is interrupted, is not the domain's affair: its end is asked for at its socket.
  for (const signal of ["SIGHUP", "SIGINT", "SIGPIPE"] as const) process.on(signal, () => {});
  const spec = specIn(folder);
  const { restore, arrives, disks } = spec;
  let from: SavedFile | undefined;
  let domain: HostedDomain;
  try {
    if (restore !== undefined) from = await openSaved(restore);
    else if (arrives === true) from = await awaitArrival(join(folder, ARRIVAL_FILE));
    if (from instanceof ArrivingDomain) await from.settle({ folder, disks: disks ?? folder });
    // Standard error is the domain's log.
    const log = (message: string): void => void process.stderr.write(logLine(message));
    domain = await hostDomain(folder, spec, from, log);
  } catch (error) {
    const message = tellFailure(folder, error);
    if (from instanceof ArrivingDomain) await from.refuse(message);
    process.exitCode = 2;
    return;
  }
  process.on("SIGTERM", () => void domain.host.destroy());
  await domain.ended;
}
