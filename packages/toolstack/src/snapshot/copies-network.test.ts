/** Copies of a running guest on networks: each has an address of its own, and harms nobody who has the other. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { formatMac } from "@xenoserver/network/wire/ethernet.ts";
import { GuestAgent } from "../agent/index.ts";
import { copyOf, type DomainConfig, parseVif, specOfConfig } from "../cfg/index.ts";
import { type Bridge, openBridge } from "../domain/bridge.ts";
import { launchDomain, type RunningDomain } from "../domain/index.ts";
import { AGENT_GUEST } from "../testing/agent-guest.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { openSaved } from "./index.ts";

const READY_MS = 120_000;
const BRIDGE = `copies-${process.pid}`;
/** The first interface is on a network of its own, the second on one with others. */
const SHARED = 1;
const GATEWAY = "10.0.2.2";

interface Machine {
  readonly domain: RunningDomain;
  readonly config: DomainConfig;
  /** By interface, what it is to have. */
  readonly macs: readonly string[];
}

describe("copies of a guest with our agent on networks", { timeout: 900_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "xeno-copies-"));
  const path = join(folder, "snapshot");
  const machines: Machine[] = [];
  let guest: DebianGuest | string;
  let bridge: Bridge;
  let web: Server;
  let original: Machine;

  const start = async (config: DomainConfig, isCopy: boolean): Promise<Machine> => {
    const domain = await launchDomain(
      config,
      { onConsole: () => {}, onLog: (message) => logs.push(message) },
      isCopy ? { from: await openSaved(path) } : {},
    );
    const machine = { domain, config, macs: config.vifs!.map(({ mac }) => formatMac(mac)) };
    machines.push(machine);
    return machine;
  };
  const logs: string[] = [];
  const copy = async (name: string): Promise<Machine> => start(copyOf(original.config, name), true);

  const run = async ({ domain }: Machine, script: string): Promise<{ status: number; output: string }> => {
    const agent = await domain.agent();
    await agent.ready(READY_MS);
    const { status, stdout, stderr } = await agent.exec(["sh", "-c", script]);
    return { status, output: `${stdout}${stderr}`.trim() };
  };
  const must = async (machine: Machine, script: string): Promise<string> => {
    const { status, output } = await run(machine, script);
    assert.equal(status, 0, `${script}: ${output}`);
    return output;
  };
  const until = async (machine: Machine, script: string): Promise<string> => {
    for (;;) {
      const { status, output } = await run(machine, script);
      if (status === 0) return output;
    }
  };
  const macsOf = async (machine: Machine): Promise<string[]> =>
    (await must(machine, "cat /sys/class/net/eth0/address /sys/class/net/eth1/address")).split("\n");
  const asks = (): string => `wget -q -O - http://10.7.0.2:${(web.address() as AddressInfo).port}/`;
  /** Its address on the shared network, when it has one. */
  const ipOf = async (machine: Machine): Promise<string> =>
    /inet ([\d.]+)/.exec(await until(machine, "ip -4 addr show eth1 | grep inet"))![1]!;

  before(async () => {
    guest = await DebianGuest.open();
    if (typeof guest === "string") return;
    bridge = await openBridge(BRIDGE, { userNetwork: {}, log: () => {} });
    web = createServer((_request, response) => response.end("here"));
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    const vifs = ["subnet=10.7.0.0/24,host=1", `bridge=${BRIDGE}`].map(parseVif);
    original = await start(await guest.config({ ...AGENT_GUEST, modules: ["xen-netfront"] }, { vifs }), false);
    await until(original, "ip -4 addr show eth0 | grep inet");
    await must(original, "ip link set eth1 up && udhcpc -i eth1 -q -n; ip route add 192.0.2.0/24 via 10.7.0.9");
    assert.equal(await must(original, asks()), "here");
    await original.domain.snapshot(path, specOfConfig(original.config));
  });
  after(async () => {
    await Promise.all(machines.map(({ domain }) => domain.destroy()));
    await bridge?.close();
    web?.close();
    rmSync(folder, { recursive: true });
  });
  const scenario = (name: string, use: (t: TestContext) => Promise<void>): void =>
    void test(name, (t) => (typeof guest === "string" ? t.skip(guest) : use(t)));

  scenario("have addresses of their own, in the guest and outside, and reach their networks", async () => {
    const copies = await Promise.all(["one", "two"].map(copy));
    const all = [original, ...copies];
    assert.equal(new Set(all.flatMap(({ macs }) => macs)).size, 6);
    for (const machine of copies) {
      while (`${await macsOf(machine)}` !== `${machine.macs}`);
      const { store, domid } = machine.domain;
      for (const [devid, mac] of machine.macs.entries())
        for (const side of [`${domid}/device/vif`, `0/backend/vif/${domid}`])
          assert.equal(store.read(`/local/domain/${side}/${devid}/mac`), mac);
      assert.equal(await must(machine, asks()), "here");
      assert.match(await must(machine, "ip route"), /192\.0\.2\.0\/24 via 10\.7\.0\.9/);
    }
    const ips: string[] = [];
    for (const machine of all) ips.push(await ipOf(machine));
    assert.equal(new Set(ips).size, 3, `${ips}`);
    for (const machine of all) await must(machine, `ping -c 2 -I eth1 ${GATEWAY}`);
    await must(copies[0]!, `ping -c 2 -I eth1 ${ips[2]}`);
    assert.deepEqual(
      logs.filter((message) => !message.includes("goes on since")),
      [],
    );
  });

  scenario(
    "that nobody tells go on under the old address where they are alone, and are not heard by others",
    async (t) => {
      t.mock.method(GuestAgent.prototype, "tellCopy", async () => []);
      const machine = await copy("three");
      assert.deepEqual(await macsOf(machine), original.macs);
      assert.equal(await must(machine, asks()), "here");
      assert.notEqual((await run(machine, `ping -c 2 -W 1 -I eth1 ${GATEWAY}`)).status, 0);
      await must(
        machine,
        `ip link set eth1 down; ip link set eth1 address ${machine.macs[SHARED]}; ip link set eth1 up`,
      );
      assert.notEqual((await run(machine, `ping -c 2 -W 1 -I eth1 ${GATEWAY}`)).status, 0);
      await must(original, `ping -c 2 -I eth1 ${GATEWAY}`);
      await must(machine, "udhcpc -i eth1 -q -n");
      assert.notEqual(await ipOf(machine), await ipOf(original));
      await must(machine, `ping -c 2 -I eth1 ${GATEWAY}`);
    },
  );
});
