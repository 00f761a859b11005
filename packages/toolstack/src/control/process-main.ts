/** What a domain's own process does; see process-folder.ts. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { configOf, type DomainConfig, type DomainSpec } from "../cfg/index.ts";
import { ArrivingDomain, awaitArrival } from "../migrate/index.ts";
import type { SavedFile } from "../save/index.ts";
import { openSaved } from "../snapshot/index.ts";
import { DomainHost } from "./domain-host.ts";
import { operationsOf } from "./operations.ts";
import {
  ARRIVAL_FILE,
  CONSOLE_FILE,
  END_FILE,
  FAILED_FILE,
  type ProcessSpec,
  SOCKET_FILE,
  SPEC_FILE,
} from "./process-folder.ts";
import { ControlServer } from "./server.ts";

/** @param folder  with its spec */
export async function main(folder: string): Promise<void> {
  // A terminal that closes, or is interrupted, is not the domain's affair: its end is asked for at its socket.
  for (const signal of ["SIGHUP", "SIGINT", "SIGPIPE"] as const) process.on(signal, () => {});
  const file = (name: string): string => join(folder, name);
  const { runId, domid, domain, paused, restore, arrives, disks } = JSON.parse(
    readFileSync(file(SPEC_FILE), "utf8"),
  ) as ProcessSpec;
  let host: DomainHost;
  let from: SavedFile | undefined;
  try {
    if (restore !== undefined) from = await openSaved(restore);
    else if (arrives === true) from = await awaitArrival(file(ARRIVAL_FILE));
    if (from instanceof ArrivingDomain) await from.settle({ folder, disks: disks ?? folder });
    const config = from === undefined ? configOf(domain, "domain").config : { ...from.config, ...identityOf(domain) };
    host = await DomainHost.start(config, {
      runId,
      domid,
      folder,
      paused,
      ownsProcess: true,
      log,
      ...(from && { from }),
      ...(disks && { ownDisks: disks }),
    });
  } catch (error) {
    const isSentence = ["ConfigError", "SaveError", "StorageError"].includes((error as Error).name);
    const message = isSentence ? (error as Error).message : String((error as Error).stack);
    if (from instanceof ArrivingDomain) await from.refuse(message);
    writeWhole(file(FAILED_FILE), { message });
    process.exitCode = 2;
    return;
  }
  process.on("SIGTERM", () => void host.destroy());
  const server = await ControlServer.listen(file(SOCKET_FILE), operationsOf(host));
  const end = await host.ended;
  const { bytes } = host.console.read(host.console.begin, host.console.end);
  writeFileSync(file(CONSOLE_FILE), bytes, { mode: 0o600 });
  writeWhole(file(END_FILE), end);
  // Who waits for the end has its answer first.
  await new Promise((resolve) => setImmediate(resolve));
  await server.close();
}

/** A domain that goes on from a file may have got another name and uuid. */
function identityOf({ name, uuid }: DomainSpec): Pick<DomainConfig, "name" | "uuid"> {
  return { name: String(name), uuid: String(uuid) };
}

/** Standard error is the domain's log. */
function log(message: string): void {
  process.stderr.write(`${new Date().toISOString()} ${message.trimEnd()}\n`);
}

/** A file that is there whole or not at all. */
function writeWhole(path: string, value: unknown): void {
  writeFileSync(`${path}.part`, JSON.stringify(value), { mode: 0o600 });
  renameSync(`${path}.part`, path);
}
