/** A domain's life in a process, as its folder tells it; see process-folder.ts. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { configOf, type DomainConfig, type DomainSpec } from "../cfg/index.ts";
import type { LaunchOptions } from "../domain/index.ts";
import type { SavedFile } from "../save/index.ts";
import { DomainHost } from "./domain-host.ts";
import { operationsOf } from "./operations.ts";
import { CONSOLE_FILE, END_FILE, FAILED_FILE, type ProcessSpec, SOCKET_FILE, SPEC_FILE } from "./process-folder.ts";
import { ControlServer } from "./server.ts";

export interface HostedDomain {
  readonly host: DomainHost;
  /** Settles when the domain has ended, its folder tells how, and its clients know. */
  readonly ended: Promise<void>;
}

export const specIn = (folder: string): ProcessSpec =>
  JSON.parse(readFileSync(join(folder, SPEC_FILE), "utf8")) as ProcessSpec;

/**
 * Starts a folder's domain, and listens at its socket.
 * @param from     what it goes on from, if anything
 * @param threads  of others, which it is to run on
 * @throws ConfigError, SaveError, StorageError  it cannot be started
 */
export async function hostDomain(
  folder: string,
  { runId, domid, domain, paused, disks, restore }: ProcessSpec,
  from: SavedFile | undefined,
  log: (message: string) => void,
  threads?: LaunchOptions["threads"],
): Promise<HostedDomain> {
  const config =
    from === undefined
      ? configOf(domain, "domain").config
      : { ...from.config, ...identityOf(domain, restore !== undefined) };
  const host = await DomainHost.start(config, {
    runId,
    domid,
    folder,
    paused,
    ownsProcess: threads?.isAlone !== false,
    log,
    ...(from && { from }),
    ...(disks && { ownDisks: disks }),
    ...(threads && { threads }),
  });
  const server = await ControlServer.listen(join(folder, SOCKET_FILE), operationsOf(host));
  return { host, ended: untilEnd(folder, host, server) };
}

async function untilEnd(folder: string, host: DomainHost, server: ControlServer): Promise<void> {
  const end = await host.ended;
  const { bytes } = host.console.read(host.console.begin, host.console.end);
  writeFileSync(join(folder, CONSOLE_FILE), bytes, { mode: 0o600 });
  writeWhole(join(folder, END_FILE), end);
  // Who waits for the end has its answer first.
  await new Promise((resolve) => setImmediate(resolve));
  await server.close();
}

/** Says in a folder why its domain could not be started. @returns that */
export function tellFailure(folder: string, error: unknown): string {
  const isSentence = ["ConfigError", "SaveError", "StorageError"].includes((error as Error).name);
  const message = isSentence ? (error as Error).message : String((error as Error).stack);
  writeWhole(join(folder, FAILED_FILE), { message });
  return message;
}

/** A domain that goes on from a file may have got another name and uuid, and other addresses; one that moves has the last as it had them. */
function identityOf(spec: DomainSpec, isRestored: boolean): Partial<DomainConfig> {
  const { vifs } = isRestored ? configOf(spec, "domain").config : {};
  return { name: String(spec["name"]), uuid: String(spec["uuid"]), ...(vifs && { vifs }) };
}

/** As a line of a log. */
export const logLine = (message: string): string => `${new Date().toISOString()} ${message.trimEnd()}\n`;

/** A file that is there whole or not at all. */
function writeWhole(path: string, value: unknown): void {
  writeFileSync(`${path}.part`, JSON.stringify(value), { mode: 0o600 });
  renameSync(`${path}.part`, path);
}
