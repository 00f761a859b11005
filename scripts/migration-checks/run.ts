/**
 * A domain under load moves back and forth between two servers with image stores of their own: clients ask it by HTTP all the time, and it writes
 * to a database on the disk that moves along.
 *
 *   npm run migration-checks                           50 moves between two agents of this machine
 *   npm run migration-checks -- --moves 10 --link far  over TLS between network namespaces, with delay, loss and cuts; takes root
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { ImageStore } from "@xenoserver/storage";
import { openBridge } from "@xenoserver/toolstack/domain/bridge.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import { median } from "../../bench/summary.ts";
import { whenInterrupted } from "../interrupted.ts";
import { buildGuest, type CheckGuest } from "./guest.ts";
import { runChecks } from "./leftovers.ts";
import { Load } from "./load.ts";
import { type CheckServer, CheckServers, type Link } from "./servers.ts";

const { values } = parseArgs({
  options: {
    moves: { type: "string", default: "50" },
    memory: { type: "string", default: "512" },
    vcpus: { type: "string", default: "1" },
    clients: { type: "string", default: "2" },
    link: { type: "string", default: "near" },
    json: { type: "boolean", default: false },
  },
});
const CHECKS = "mc";
const DOMAIN = "mover";
const DISK_BYTES = 256 << 20;
/** In every so many moves of a far link, that is taken away for a while. */
const CUT_EVERY = 5;
const tell = (line: string): void => console.error(line);

async function main(folder: string): Promise<boolean> {
  const debian = await DebianGuest.open();
  if (typeof debian === "string") throw new Error(debian);
  const guest = await buildGuest(debian);
  const name = `checks-${process.pid}`;
  const forwards = [{ protocol: "tcp", host: "127.0.0.1", hostPort: 0, guestPort: 80 }] as const;
  const bridge = await openBridge(name, { log: () => {}, userNetwork: { forwards } });
  const servers = CheckServers.open(folder, values.link as Link);
  const load = new Load(`http://127.0.0.1:${bridge.forwards[0]!.hostPort}`, guest.fileSum);
  try {
    return await Promise.race([interrupted, check(guest, name, servers, load)]);
  } finally {
    for (const server of [servers.left, servers.right]) await server.stop(DOMAIN);
    servers.close();
    await bridge.close();
  }
}

async function check(guest: CheckGuest, bridge: string, servers: CheckServers, load: Load): Promise<boolean> {
  const store = await ImageStore.open(servers.left.env["XENO_STORE"]!);
  await store.import("empty:1", {
    info: { sizeBytes: DISK_BYTES, readOnly: true },
    read: async (_at, into) => into.forEach((part) => part.fill(0)),
    isHole: () => true,
  });
  const spec = {
    name: DOMAIN,
    kernel: guest.kernel,
    ramdisk: guest.ramdisk,
    cmdline: "console=hvc0 quiet",
    memory: Number(values.memory),
    vcpus: Number(values.vcpus),
    disk: ["empty:1,image,xvda"],
    vif: [`bridge=${bridge}`],
  };
  await servers.left.agent.post("/v1/domains", { spec, overcommit: true });
  while ((await load.get("ready", 2000).catch(() => undefined)) === undefined) await sleep(1500);
  while (Number((await load.get("committed").catch(() => "0")).toString()) < 10) await sleep(500);
  tell(`the guest serves and writes; it moves ${values.moves} times`);
  load.start(Number(values.clients));
  await sleep(2000);
  const reports = await moveAround(servers, load);
  const rows = await load.checkDatabase();
  await load.stop();
  return conclude(reports, load, rows);
}

interface Moved extends MigrationReport {
  readonly longestMs: number;
}

async function moveAround(servers: CheckServers, load: Load): Promise<Moved[]> {
  const moved: Moved[] = [];
  let [here, there]: [CheckServer, CheckServer] = [servers.left, servers.right];
  for (let n = 1; n <= Number(values.moves); n++) {
    load.takeLongestMs();
    const isCut = servers.isFar && n % CUT_EVERY === 0;
    const cutting = isCut ? sleep(Math.random() * 2000).then(() => servers.cut(1500)) : Promise.resolve();
    try {
      const report = await here.migrate(DOMAIN, there);
      await sleep(500);
      const longestMs = load.takeLongestMs();
      moved.push({ ...report, longestMs });
      [here, there] = [there, here];
      const { downtimeMs, downtime, totalMs, diskBytes, sentBytes, rounds } = report;
      const laps = Object.entries(downtime)
        .map(([lap, ms]) => `${lap.replace("Ms", "")} ${(ms as number).toFixed(0)}`)
        .join(", ");
      tell(
        `${n}: to ${here.name}, stood still ${downtimeMs.toFixed(0)} ms (${laps}), ${(totalMs / 1000).toFixed(1)} s, ${mb(sentBytes)} MB, ${mb(diskBytes)} of disks, ${rounds} rounds; the slowest request took ${longestMs.toFixed(0)} ms`,
      );
    } catch (error) {
      if (!isCut) throw error;
      tell(`${n}: ${(error as Error).message}`);
      [here, there] = (await here.has(DOMAIN)) ? [here, there] : [there, here];
    }
    await cutting;
    if (n % 10 === 0) tell(`the database has ${await load.checkDatabase()} rows, and is whole`);
  }
  return moved;
}

const mb = (bytes: number): string => (bytes / 1e6).toFixed(0);

function conclude(moved: readonly Moved[], load: Load, rows: number): boolean {
  const column = (title: string, of: (report: Moved) => number): string => {
    const all = moved.map(of);
    return `${title.padEnd(34)} ${(median(all) ?? Number.NaN).toFixed(0).padStart(8)} ${Math.max(...all)
      .toFixed(0)
      .padStart(8)}`;
  };
  if (values.json) console.log(JSON.stringify({ moved, requests: load.requests, failures: load.failures, rows }));
  else
    console.log(
      [
        `${moved.length} moves, ${load.requests} requests, ${load.failures.length} failed; ${rows} rows committed, none missing`,
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
  for (const failure of new Set(load.failures)) console.log(`failed: ${failure}`);
  return load.failures.length === 0;
}

const interrupted = whenInterrupted();
await runChecks(CHECKS, [DOMAIN], main);
