/** Servers with image stores of their own, between which domains' processes move. For tests. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ImageStore } from "@xenoserver/storage";
import type { DomainSpec } from "../control/index.ts";
import { ARRIVAL_FILE } from "../control/process-folder.ts";
import type { MigrationReport } from "../migrate/index.ts";
import { type Fault, relay } from "./cut-link.ts";
import { DomainProcess } from "./domain-process.ts";

export class TestServer {
  readonly folder: string;
  /** Of disks that are files and came along. */
  readonly disks: string;
  readonly #storeFolder: string;
  readonly #started: DomainProcess[] = [];

  constructor(folder: string, storeFolder = join(folder, "store")) {
    this.folder = folder;
    this.disks = join(folder, "disks");
    this.#storeFolder = storeFolder;
    mkdirSync(folder, { recursive: true });
  }

  store(): Promise<ImageStore> {
    return ImageStore.open(this.#storeFolder);
  }

  start(spec: DomainSpec, arrives = false): DomainProcess {
    const changes = { arrives, disks: this.disks };
    const domain = DomainProcess.start(spec, changes, { env: { XENO_STORE: this.#storeFolder }, cwd: this.folder });
    this.#started.push(domain);
    return domain;
  }

  async overlays(): Promise<string[]> {
    return (await this.store()).listOverlays();
  }
  get files(): string[] {
    return existsSync(this.disks) ? readdirSync(this.disks) : [];
  }

  async remove(): Promise<void> {
    for (const domain of this.#started) await domain.remove();
  }
}

export interface Move {
  readonly there: DomainProcess;
  readonly sent: MigrationReport | Error;
}

export interface MoveOptions {
  /** Of the line; without one there is nothing between both processes. */
  readonly fault?: Fault;
  readonly copyStorage?: boolean;
  readonly postCopy?: boolean;
}

/**
 * Moves a domain's process to another server.
 * @param during  is called when the other process awaits the domain
 */
export async function moveTo(
  server: TestServer,
  domain: DomainProcess,
  spec: DomainSpec,
  { fault, ...wishes }: MoveOptions = {},
  during: (there: DomainProcess) => void = () => {},
): Promise<Move> {
  const there = server.start(spec, true);
  const arrival = join(there.folder, ARRIVAL_FILE);
  while (!existsSync(arrival)) await sleep(5);
  const [socket, close] = fault === undefined ? [arrival, () => {}] : await relayed(there.folder, arrival, fault);
  during(there);
  const client = await domain.client();
  const sent = await client.call("migrate", { socket, ...wishes }).catch((error: Error) => error);
  close();
  return { there, sent };
}

/** @returns a socket whose connection goes on to another, as far as the fault lets it */
async function relayed(folder: string, arrival: string, fault: Fault): Promise<[socket: string, close: () => void]> {
  const path = join(folder, "relay.sock");
  const links = createServer((sender) => relay(sender, connect(arrival), fault));
  await new Promise<void>((resolve) => links.listen(path, resolve));
  return [path, () => void links.close()];
}

/** @throws AssertionError  it has not moved */
export function reportOf({ sent, there }: Move): MigrationReport {
  assert.ok(!(sent instanceof Error), `${String(sent)}\n${there.failure()}\n${there.log}`);
  return sent;
}
