/**
 * A domain under load moves back and forth between two servers with image stores of their own, and its disks with it.
 *
 *   npm run migration-checks                           50 moves between two agents of this machine; the guest serves files by HTTP and writes to a database
 *   npm run migration-checks -- --guest pgbench        a Debian with PostgreSQL, asked by pgbench; takes mmdebstrap, and some two minutes for its image
 *   npm run migration-checks -- --guest pgbench --image NAME   of the user's store, which has postgresql
 *   npm run migration-checks -- --moves 10 --link far  over TLS between network namespaces, with delay, loss and cuts; takes root
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { openBridge } from "@xenoserver/toolstack/domain/bridge.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";
import { median } from "../../bench/summary.ts";
import { whenInterrupted } from "../interrupted.ts";
import { type CheckedGuest, DOMAIN, type Findings } from "./checked-guest.ts";
import { HttpGuest } from "./http-guest.ts";
import { runChecks } from "./leftovers.ts";
import { PgbenchGuest } from "./pgbench-guest.ts";
import { type CheckServer, CheckServers, type Link } from "./servers.ts";

const { values } = parseArgs({
  options: {
    moves: { type: "string", default: "50" },
    guest: { type: "string", default: "http" },
    image: { type: "string" },
    memory: { type: "string" },
    vcpus: { type: "string", default: "1" },
    clients: { type: "string", default: "2" },
    link: { type: "string", default: "near" },
    "cut-every": { type: "string", default: "5" },
    json: { type: "boolean", default: false },
  },
});
const CHECKS = "mc";
/** A move survives the first; the second is longer than silence is borne. */
const [SHORT_CUT_MS, LONG_CUT_MS] = [1500, 45_000];
/** From when it is about to stand still until it runs there, about. */
const HANDOVER_MS = 200;
/** Until both servers know where the domain is. */
const MOST_DOUBT_MS = 180_000;
/** TCP sends a lost SYN again after one and three seconds; a guest that is away for longer is lost, unless the line is. */
const [PATIENCE_MS, FAR_PATIENCE_MS] = [30_000, 180_000];
const tell = (line: string): void => console.error(line);

const GUESTS: Readonly<Record<string, (folder: string) => CheckedGuest>> = {
  http: () => new HttpGuest(Number(values.clients), values.link === "far" ? FAR_PATIENCE_MS : PATIENCE_MS),
  pgbench: (folder) => new PgbenchGuest(folder, Number(values.clients), values.image, tell),
};

async function main(folder: string): Promise<boolean> {
  const guestOf = GUESTS[values.guest];
  if (guestOf === undefined)
    throw new Error(`guest is ${values.guest}, expected one of ${Object.keys(GUESTS).join(", ")}`);
  const own = join(folder, "guest");
  mkdirSync(own);
  const guest = guestOf(own);
  const name = `checks-${process.pid}`;
  const forwards = [{ protocol: "tcp", host: "127.0.0.1", hostPort: 0, guestPort: guest.port }] as const;
  const bridge = await openBridge(name, { log: () => {}, userNetwork: { forwards } });
  const servers = await CheckServers.open(folder, values.link as Link);
  try {
    const settings = [...(await guest.settings(servers.left.store)), `vif=["bridge=${name}"]`];
    return await Promise.race([interrupted, check(guest, settings, servers, bridge.forwards[0]!.hostPort)]);
  } finally {
    for (const server of [servers.left, servers.right]) await server.stop(DOMAIN);
    guest.close();
    servers.close();
    await bridge.close();
  }
}

async function check(
  guest: CheckedGuest,
  settings: readonly string[],
  servers: CheckServers,
  hostPort: number,
): Promise<boolean> {
  const size = [`memory=${values.memory ?? guest.memoryMib}`, `vcpus=${values.vcpus}`];
  await servers.left.xeno("create", `name=${DOMAIN}`, ...size, ...settings, "--overcommit");
  await guest.start(servers.left, hostPort);
  tell(`the guest is at work; it moves ${values.moves} times`);
  const [moves, server] = await moveAround(servers, guest);
  const findings = await guest.finish(server);
  return conclude(moves, guest, findings);
}

interface Moved extends MigrationReport {
  readonly fromMs: number;
  readonly toMs: number;
}

/** @returns also where the domain is then */
async function moveAround(servers: CheckServers, guest: CheckedGuest): Promise<[Moved[], CheckServer]> {
  const moved: Moved[] = [];
  let [here, there]: [CheckServer, CheckServer] = [servers.left, servers.right];
  for (let n = 1; n <= Number(values.moves); n++) {
    const fromMs = performance.now();
    const cut = new Cut(servers, n, moved.at(-1)?.totalMs ?? 0);
    try {
      const report = await here.migrate(DOMAIN, there, () => cut.handover());
      await sleep(500);
      [here, there] = [there, here];
      const move = { ...report, fromMs, toMs: performance.now() };
      moved.push(move);
      tell(
        `${n}: to ${here.name}, ${describe(move, guest)}${cut.isCut ? `; the line was cut for ${cut.forMs} ms` : ""}`,
      );
    } catch (error) {
      if (!cut.isLong) throw error;
      tell(`${n}: ${(error as Error).message}`);
      await cut.done;
      [here, there] = await found(here, there);
      const [toMs, seconds] = [performance.now(), ((performance.now() - fromMs) / 1000).toFixed(1)];
      tell(`${n}: after ${seconds} s it is on the ${here.name} server${slowest(guest, fromMs, toMs)}`);
    }
    await cut.done;
    if (n % 10 === 0 || cut.isLong) tell(await guest.check(here));
  }
  return [moved, here];
}

/** The line is taken away for a while in some moves: at any time, or for long when the domain is about to be handed over, which leaves servers in doubt most. */
class Cut {
  readonly isCut: boolean;
  readonly isLong: boolean;
  readonly forMs: number;
  done: Promise<void> = Promise.resolve();
  readonly #servers: CheckServers;
  #isBegun = false;

  /** @param moveMs  how long a move takes, about */
  constructor(servers: CheckServers, move: number, moveMs: number) {
    const every = Number(values["cut-every"]);
    this.#servers = servers;
    this.isCut = servers.isFar && every > 0 && move % every === 0;
    this.isLong = this.isCut && move % (2 * every) === 0;
    this.forMs = this.isLong ? LONG_CUT_MS : SHORT_CUT_MS;
    if (this.isCut && !this.isLong) this.#begin(Math.random() * moveMs);
  }

  /** The domain is about to stand still. */
  handover(): void {
    if (this.isLong && !this.#isBegun) this.#begin(Math.random() * HANDOVER_MS);
  }

  #begin(afterMs: number): void {
    this.#isBegun = true;
    this.done = sleep(afterMs).then(() => this.#servers.cut(this.forMs));
  }
}

/** Waits until the domain runs on one of both, and is not on the other. @returns that one, and the other */
async function found(a: CheckServer, b: CheckServer): Promise<[CheckServer, CheckServer]> {
  const begin = performance.now();
  for (;;) {
    const [onA, onB] = [await a.stateOf(DOMAIN), await b.stateOf(DOMAIN)];
    if (onA === "running" && onB === undefined) return [a, b];
    if (onB === "running" && onA === undefined) return [b, a];
    if (performance.now() - begin > MOST_DOUBT_MS)
      throw new Error(`the domain is ${onA ?? "not"} on the ${a.name} server, ${onB ?? "not"} on the ${b.name} one`);
    await sleep(500);
  }
}

function describe(move: Moved, guest: CheckedGuest): string {
  const { downtimeMs, downtime, totalMs, diskBytes, sentBytes, rounds, fromMs, toMs } = move;
  const laps = Object.entries(downtime).map(([lap, ms]) => `${lap.replace("Ms", "")} ${(ms as number).toFixed(0)}`);
  return [
    `stood still ${downtimeMs.toFixed(0)} ms (${laps.join(", ")}), ${(totalMs / 1000).toFixed(1)} s, ${mb(sentBytes)} MB`,
    `${mb(diskBytes)} of disks, ${rounds} rounds${slowest(guest, fromMs, toMs)}`,
  ].join(", ");
}

const mb = (bytes: number): string => (bytes / 1e6).toFixed(0);

function slowest(guest: CheckedGuest, fromMs: number, toMs: number): string {
  const slowestMs = guest.slowestMs(fromMs, toMs);
  return slowestMs === undefined ? "" : `; the slowest request took ${slowestMs.toFixed(0)} ms`;
}

function conclude(moves: readonly Moved[], guest: CheckedGuest, { found, failures }: Findings): boolean {
  const moved = moves.map((move) => ({ ...move, longestMs: guest.slowestMs(move.fromMs, move.toMs) }));
  const column = (title: string, of: (report: (typeof moved)[number]) => number | undefined): string => {
    const all = moved.flatMap((move) => of(move) ?? []);
    return `${title.padEnd(34)} ${(median(all) ?? Number.NaN).toFixed(0).padStart(8)} ${Math.max(...all)
      .toFixed(0)
      .padStart(8)}`;
  };
  if (values.json) console.log(JSON.stringify({ moved, found, failures }));
  else
    console.log(
      [
        `${moved.length} moves`,
        ...found,
        `${"".padEnd(34)} ${"median".padStart(8)} ${"most".padStart(8)}`,
        column("stood still, ms", ({ downtimeMs }) => downtimeMs),
        ...(["haltMs", "writeMs", "readyMs", "releaseMs", "startMs"] as const).map((lap) =>
          column(`  ${lap.replace("Ms", "")}`, ({ downtime }) => downtime[lap]),
        ),
        column("slowest request, ms", ({ longestMs }) => longestMs),
        column("took altogether, ms", ({ totalMs }) => totalMs),
        column("sent, MB", ({ sentBytes }) => sentBytes / 1e6),
        column("read of disks, MB", ({ diskBytes }) => diskBytes / 1e6),
      ].join("\n"),
    );
  for (const failure of new Set(failures)) console.log(`failed: ${failure}`);
  return failures.length === 0;
}

const interrupted = whenInterrupted();
await runChecks(CHECKS, [DOMAIN], main);
