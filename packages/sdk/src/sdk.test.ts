/** One and the same program, with a machine in its own process and with one under an agent. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { agentHome, startAgent } from "@xenoserver/agent/index.ts";
import { AGENT_GUEST } from "@xenoserver/toolstack/testing/agent-guest.ts";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import { type Domain, type Host, inProcess, Server } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-sdk-"));
const env = { XENO_AGENT_HOME: join(folder, "agent") };
const guest = await DebianGuest.open();
const agent = await startAgent(agentHome(env));
after(async () => {
  await agent.close();
  rmSync(folder, { recursive: true });
});

const HOSTS: Readonly<Record<string, () => Host | Promise<Host>>> = {
  "in the program's process": () => inProcess,
  "under an agent": () => Server.local(env),
};

for (const [where, hostOf] of Object.entries(HOSTS)) {
  describe(`a machine ${where}`, { timeout: 400_000, skip: typeof guest === "string" ? guest : false }, () => {
    test("runs commands, has files, is copied, goes on from a snapshot, and ends", async () => {
      const { kernel, ramdisk } = await (guest as DebianGuest).config(AGENT_GUEST);
      const host = await hostOf();
      const made: Domain[] = [];
      try {
        const machine = await host.create({
          name: "one",
          kernel,
          ramdisk: ramdisk!,
          memory: 128,
          cmdline: "console=hvc0 quiet",
        });
        made.push(machine);
        const { status, stdout, stderr } = await machine.exec("echo $A; pwd; cat; echo err >&2; exit 3", {
          ...{ env: { A: "b" }, cwd: "/proc", stdin: "typed\n" },
        });
        assert.deepEqual([status, String(stdout), String(stderr)], [3, "b\n/proc\ntyped\n", "err\n"]);
        await assert.rejects(machine.exec(["/no/such"]), /\/no\/such: cannot be started: no such file/);
        const killed = machine.exec(["sleep", "1000"], { signal: AbortSignal.timeout(300) });
        assert.equal((await killed).status, 137);

        const bytes = Buffer.from(Uint8Array.from({ length: 100_001 }, (_, n) => n * 7));
        await machine.writeFile("/tmp/file", bytes, 0o600);
        const read: Uint8Array[] = [];
        for await (const piece of machine.readFile("/tmp/file")) read.push(piece);
        assert.ok(Buffer.concat(read).equals(bytes));
        await assert.rejects(async () => {
          for await (const _ of machine.readFile("/nothing"));
        }, /\/nothing/);

        const copies = await machine.fork({ count: 2 });
        made.push(...copies);
        assert.deepEqual(
          copies.map(({ name }) => name),
          ["one-1", "one-2"],
        );
        await copies[0]!.exec("echo other > /tmp/file");
        assert.equal(String((await copies[1]!.exec("wc -c < /tmp/file")).stdout), "100001\n");
        assert.equal(String((await machine.exec("wc -c < /tmp/file")).stdout), "100001\n");
        assert.equal(String((await copies[0]!.exec("cat /tmp/file")).stdout), "other\n");

        const path = join(folder, "snapshot");
        assert.ok((await copies[0]!.snapshot(path)).bytes > 0);
        const later = await host.restore(path, { name: "later" });
        made.push(later);
        assert.deepEqual([later.name, String((await later.exec("cat /tmp/file")).stdout)], ["later", "other\n"]);
        assert.notEqual(later.uuid, copies[0]!.uuid);

        await machine.pause();
        await machine.unpause();
        let printed = "";
        for await (const piece of machine.console()) {
          printed += Buffer.from(piece).toString();
          if (printed.includes("init reached")) break;
        }
        await machine.exec("echo 1 > /proc/sys/kernel/sysrq; sync; (sleep 0.2; poweroff -f) > /dev/null 2>&1 &");
        assert.equal((await machine.ended).reason, "poweroff");
      } finally {
        for (const domain of made) await domain.destroy().catch(() => {});
      }
      for (const { ended } of made.slice(1)) assert.equal((await ended).reason, "destroyed");
    });
  });
}
