/**
 * A domain that counts moves from one server to another while its console is watched, and its usage is told.
 *
 *   npm run demo
 *
 * The servers are two agents of this machine, with folders of their own that are removed at the end.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type AgentClient, agentHome, type UsageSum } from "@xenoserver/agent/index.ts";
import type { DomainInfo } from "@xenoserver/toolstack/control/index.ts";
import { buildInitramfs, fetchKernel, openPackageSource } from "@xenoserver/toolstack/guest/index.ts";
import type { MigrationReport } from "@xenoserver/toolstack/migrate/index.ts";
import { openAgentOf } from "../apps/cli/src/agent-access.ts";

const COUNTER = `#!/bin/sh
n=0
while :; do n=$((n+1)); echo "count $n on $(uname -n), up $(cut -d. -f1 /proc/uptime) s"; sleep 0.2; done
`;
const COUNTS_BEFORE = 15;
const COUNTS_AFTER = 15;
const SHOWN_EVERY = 5;

const tell = (line: string): void => console.log(line);

/** What counts on a console, and whether a number is missing or comes twice. */
class Watch {
  last = 0;
  readonly gaps: string[] = [];

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
    if (number % SHOWN_EVERY === 0) tell(`  ${server.padEnd(5)} | ${line}`);
  }

  async reaches(count: number): Promise<void> {
    while (this.last < count) await sleep(50);
  }
}

async function demonstrate(folder: string): Promise<void> {
  const source = await openPackageSource({ progress: tell });
  const kernel = await fetchKernel(source, "cloud", tell);
  const ramdisk = await buildInitramfs(source, { script: COUNTER }, tell);
  const homes = ["left", "right"].map((name) => agentHome({ XENO_AGENT_HOME: join(folder, name) }));
  const [left, right] = (await Promise.all(homes.map((home) => openAgentOf(home)))) as [AgentClient, AgentClient];
  const watch = new Watch();
  try {
    tell("two servers, left and right; a domain that counts starts on the left one");
    const spec = { name: "counter", kernel: kernel.path, ramdisk, memory: 128, cmdline: "console=hvc0 quiet" };
    await left.post<DomainInfo>("/v1/domains", { spec, overcommit: true });
    void watch.follow(left, "left").catch(() => {});
    await watch.reaches(COUNTS_BEFORE);

    tell("it moves to the right one while it counts");
    const moving = left.post<MigrationReport>("/v1/domains/counter/migrate", {
      to: homes[1]!.socket,
      overcommit: true,
    });
    const { rounds, sentBytes, totalMs, downtimeMs } = await moving;
    const movedAt = watch.last;
    void watch.follow(right, "right").catch(() => {});
    tell(
      `moved: ${(sentBytes / 1e6).toFixed(0)} MB in ${rounds} rounds took ${(totalMs / 1000).toFixed(1)} s, of which it stood still for ${Math.round(downtimeMs)} ms`,
    );
    await watch.reaches(movedAt + COUNTS_AFTER);
    const { gaps, last } = watch;
    tell(
      gaps.length === 0 ? `it has counted to ${last} and left nothing out` : `numbers are missing: ${gaps.join(", ")}`,
    );
    if (gaps.length > 0) process.exitCode = 1;

    for (const [name, agent] of Object.entries({ left, right })) {
      const { usage } = await agent.get<{ usage: UsageSum[] }>("/v1/usage");
      for (const { totals } of usage)
        tell(
          `on the ${name} server it ran ${(totals.vcpuUsedNs / 1e9).toFixed(1)} s of ${(totals.vcpuReservedNs / 1e9).toFixed(1)} s that its vcpu was reserved`,
        );
    }
  } finally {
    for (const agent of [left, right]) {
      await agent.post("/v1/domains/counter/destroy").catch(() => {});
      await agent.post("/v1/agent/stop").catch(() => {});
      while (await agent.isThere()) await sleep(50);
    }
  }
}

const folder = mkdtempSync(join(tmpdir(), "xeno-demo-"));
try {
  await demonstrate(folder);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
