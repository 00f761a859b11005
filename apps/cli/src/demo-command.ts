/**
 * `xeno demo`, with which `npm start` ends: a domain that counts moves from one server to another while its console is watched, and its usage is told.
 * The servers are two agents of this machine, with folders of their own that are removed at the end.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient, agentHome, type UsageSum } from "@xenoserver/agent/index.ts";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import { buildInitramfs, fetchKernel, type Progress } from "@xenoserver/toolstack/guest/index.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";
import { openAgentOf } from "./agent-access.ts";
import { openSource } from "./small-guest.ts";
import { interruptible } from "./store-access.ts";
import type { SourceOptions } from "./try-command.ts";
import { usageTable } from "./usage-table.ts";

const COUNTER = `#!/bin/sh
n=0
while :; do n=$((n+1)); echo "count $n on $(uname -n), up $(cut -d. -f1 /proc/uptime) s"; sleep 0.2; done
`;
const COUNTS_BEFORE = 15;
const COUNTS_AFTER = 15;
const SHOWN_EVERY = 5;
/** A guest that neither boots nor counts for so long will not do so any more. */
const PATIENCE_MS = 120_000;

/** Who watches, and whether it is to end early. */
interface Audience {
  readonly tell: Progress;
  readonly signal: AbortSignal;
}

/** What counts on a console, and whether a number is missing or comes twice. */
class Watch {
  last = 0;
  readonly gaps: string[] = [];
  readonly #audience: Audience;

  constructor(audience: Audience) {
    this.#audience = audience;
  }

  async follow(agent: AgentClient, server: string): Promise<void> {
    const console = await agent.console("counter");
    console.on("error", () => {});
    let rest = "";
    for await (const bytes of console) {
      const lines = (rest + String(bytes)).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.#take(line.trim(), server);
    }
  }

  #take(line: string, server: string): void {
    const number = Number(/^count (\d+) /.exec(line)?.[1]);
    if (!(number > 0)) return;
    if (number !== this.last + 1) this.gaps.push(`${number} after ${this.last}`);
    this.last = number;
    if (number % SHOWN_EVERY === 0) this.#audience.tell(`  ${server.padEnd(5)} | ${line}`);
  }

  /** @throws Error  it does not get there */
  async reaches(count: number): Promise<void> {
    for (let [seen, since] = [this.last, performance.now()]; this.last < count; ) {
      await sleep(50, undefined, { signal: this.#audience.signal });
      if (this.last !== seen) [seen, since] = [this.last, performance.now()];
      else if (performance.now() - since > PATIENCE_MS)
        throw new Error(`the domain has counted to ${seen} and no further for ${PATIENCE_MS / 1000} s`);
    }
  }
}

interface Counter {
  readonly kernel: string;
  readonly ramdisk: string;
}
type Servers = Readonly<Record<"left" | "right", AgentClient>>;

/** @returns what was left out of the count */
async function moveCounter({ kernel, ramdisk }: Counter, servers: Servers, to: string, audience: Audience) {
  const { tell } = audience;
  const { left, right } = servers;
  const watch = new Watch(audience);
  tell("two servers, left and right; a domain that counts starts on the left one");
  const spec = { name: "counter", kernel, ramdisk, memory: 128, cmdline: "console=hvc0 quiet" };
  await left.post<DomainInfo>("/v1/domains", { spec, overcommit: true });
  void watch.follow(left, "left").catch(() => {});
  await watch.reaches(COUNTS_BEFORE);

  tell("it moves to the right one while it counts");
  const report = await left.post<MigrationReport>("/v1/domains/counter/migrate", { to, overcommit: true });
  const movedAt = watch.last;
  void watch.follow(right, "right").catch(() => {});
  const { rounds, sentBytes, totalMs, downtimeMs } = report;
  tell(
    `moved: ${(sentBytes / 1e6).toFixed(0)} MB in ${rounds} round${rounds === 1 ? "" : "s"} took ${(totalMs / 1000).toFixed(1)} s, of which it stood still for ${Math.round(downtimeMs)} ms`,
  );
  await watch.reaches(movedAt + COUNTS_AFTER);
  const { gaps, last } = watch;
  tell(
    gaps.length === 0 ? `it has counted to ${last} and left nothing out` : `numbers are missing: ${gaps.join(", ")}`,
  );
  return gaps;
}

async function tellUsage(servers: Servers, tell: Progress): Promise<void> {
  const sums: UsageSum[] = [];
  for (const [server, agent] of Object.entries(servers)) {
    const { usage } = await agent.get<{ usage: UsageSum[] }>("/v1/usage");
    sums.push(...usage.map((sum) => ({ ...sum, name: `${sum.name}, on the ${server} server` })));
  }
  tell("what it used and had reserved, as each server has recorded it:");
  for (const line of usageTable(sums)) tell(`  ${line}`);
}

async function endServers(servers: Servers): Promise<void> {
  for (const agent of Object.values(servers)) {
    await agent.post("/v1/domains/counter/destroy").catch(() => {});
    await agent.post("/v1/agent/stop").catch(() => {});
    while (await agent.isThere()) await sleep(50);
  }
}

/**
 * @param options  where packages come from, and which kernel
 * @returns        the exit status
 * @throws         PackageError  there is no kernel to be had
 */
export async function demoCommand(options: SourceOptions, tell: Progress): Promise<number> {
  const source = await openSource(options, tell);
  const { path: kernel } = await fetchKernel(source, options.flavour ?? "cloud", tell);
  const ramdisk = await buildInitramfs(source, { script: COUNTER }, tell);
  const folder = mkdtempSync(join(tmpdir(), "xeno-demo-"));
  let gaps: readonly string[] = [];
  try {
    const status = await interruptible(async (signal) => {
      const homes = ["left", "right"].map((name) => agentHome({ XENO_AGENT_HOME: join(folder, name) }));
      const [left, right] = homes.map(({ socket }) => new AgentClient(socket)) as [AgentClient, AgentClient];
      const servers = { left, right };
      try {
        for (const home of homes) await openAgentOf(home);
        gaps = await moveCounter({ kernel, ramdisk }, servers, homes[1]!.socket, { tell, signal });
        await tellUsage(servers, tell);
      } finally {
        await endServers(servers);
      }
    });
    return status !== 0 || gaps.length === 0 ? status : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
