/** Two stock Debian kernels on one switch. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { parseVif } from "../cfg/index.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { GuestShell } from "../testing/guest-shell.ts";
import { type Bridge, openBridge } from "./bridge.ts";
import { launchDomain } from "./launch.ts";

const TIMEOUT_SECONDS = 240;
const NAME = `test-${process.pid}`;

const debian = await DebianGuest.open();
const skip = typeof debian === "string" ? debian : false;

const boot = async (...vifs: string[]): Promise<GuestShell> => {
  const config = await (debian as DebianGuest).config(
    { packages: ["socat"], modules: ["xen-netfront"] },
    { memoryMib: 512, vifs: vifs.map(parseVif) },
  );
  return GuestShell.boot(config, TIMEOUT_SECONDS);
};

const runIn = async (shell: GuestShell, command: string): Promise<string> => {
  const { output, status } = await shell.run(command, TIMEOUT_SECONDS);
  assert.equal(status, 0, `${command}: ${output}`);
  return output;
};

const HAS_ADDRESS =
  "for n in $(seq 40); do ip -4 route | grep -q default && break; sleep 0.2; done; ip -4 route | grep -q default";
const ADDRESS =
  "for n in $(seq 150); do ip -4 addr show eth0 | grep -q inet && break; sleep 0.2; done; ip -4 addr show eth0";
const addressOf = async (shell: GuestShell): Promise<string> => /inet ([\d.]+)/.exec(await runIn(shell, ADDRESS))![1]!;

describe("two domains on a bridge", { skip, timeout: 900_000 }, () => {
  let bridge: Bridge;
  let one: GuestShell;
  let two: GuestShell;

  before(async () => {
    bridge = await openBridge(NAME, { userNetwork: {}, log: () => {} });
    [one, two] = await Promise.all([
      boot(`bridge=${NAME},mac=00:16:3e:00:00:01`),
      boot(`bridge=${NAME},mac=00:16:3e:00:00:02`),
    ]);
  });
  after(async () => {
    await one?.destroy();
    await two?.destroy();
    await bridge?.close();
  });

  test("both get addresses from its gateway, and reach each other and it", async () => {
    const [first, second] = [await addressOf(one), await addressOf(two)];
    assert.notEqual(first, second);
    assert.match(await runIn(one, `ping -c 2 ${second}`), / 0% packet loss/);
    assert.match(await runIn(two, "ping -c 2 10.0.2.2"), / 0% packet loss/);
  });

  test("megabytes go from one to the other unharmed, in frames larger than the wire carries", async () => {
    await runIn(one, "dd if=/dev/urandom of=/tmp/noise bs=64k count=200 2>/dev/null");
    await runIn(two, "(socat -u TCP-LISTEN:7000 CREATE:/tmp/noise; echo done > /tmp/over) & sleep 0.5");
    await runIn(one, `socat -u OPEN:/tmp/noise TCP:${await addressOf(two)}:7000`);
    await runIn(two, "for n in $(seq 100); do [ -s /tmp/over ] && break; sleep 0.2; done");
    assert.equal(await runIn(two, "sha256sum < /tmp/noise"), await runIn(one, "sha256sum < /tmp/noise"));
    const [packets, bytes] = (await runIn(two, "cd /sys/class/net/eth0/statistics; cat rx_packets rx_bytes"))
      .split("\n")
      .map(Number);
    assert.ok(bytes! / packets! > 3000, `${bytes} bytes in ${packets} packets`);
  });

  test("a guest that uses another's address is not heard", async () => {
    const second = await addressOf(two);
    await runIn(
      one,
      "ip link set eth0 down; ip link set eth0 address 00:16:3e:00:00:02; ip link set eth0 up; ip addr add 10.0.2.99/24 dev eth0",
    );
    assert.match((await one.run(`ping -c 2 -W 1 ${second}`, TIMEOUT_SECONDS)).output, /100% packet loss/);
  });

  test("there is one bridge of a name, and none of another", async () => {
    await assert.rejects(openBridge(NAME, { log: () => {} }), /is there already/);
    const config = await (debian as DebianGuest).config({}, { vifs: [parseVif("bridge=nobody")] });
    await assert.rejects(launchDomain(config, { onConsole: () => {} }), {
      name: "ConfigError",
      message: "vif 0: bridge nobody is not there, expected one of this host, or one started by: xeno bridge nobody",
    });
  });
});

describe("interfaces that come and go", { skip, timeout: 900_000 }, () => {
  test("a guest gets another interface while it runs, and loses it again", async () => {
    const shell = await boot();
    try {
      const { domain } = shell.session;
      assert.equal(await runIn(shell, "ls /sys/class/net"), "lo");
      assert.equal(await domain.attachVif(parseVif("mac=00:16:3e:00:00:07")), 0);
      await runIn(shell, "for n in $(seq 100); do [ -e /sys/class/net/eth0 ] && break; sleep 0.1; done");
      // The guest's init asks for an address if the interface comes within five seconds; a second client would undo what it does.
      await runIn(shell, `${HAS_ADDRESS} || { ip link set eth0 up && udhcpc -i eth0 -n -q; }; ping -c 1 10.0.2.2`);
      assert.equal(await domain.attachVif(parseVif("subnet=10.7.0.0/24")), 1);
      await runIn(shell, "for n in $(seq 100); do [ -e /sys/class/net/eth1 ] && break; sleep 0.1; done");
      await runIn(shell, "ip link set eth1 up && udhcpc -i eth1 -n -q && ping -c 1 10.7.0.2");
      assert.equal(await domain.detachVif(0), true);
      // The guest lets go first and takes its interface down behind that.
      await runIn(shell, "for n in $(seq 100); do [ -e /sys/class/net/eth0 ] || break; sleep 0.1; done");
      assert.equal(await runIn(shell, "ls /sys/class/net"), "eth1  lo");
      await assert.rejects(domain.detachVif(0), /vif 0 is not there/);
    } finally {
      await shell.destroy();
    }
  });
});

const noPasst = spawnSync("passt", ["--version"]).error !== undefined ? "passt is not installed" : false;

test("the network of passt", { skip: skip || noPasst, timeout: 900_000 }, async () => {
  const payload = randomBytes(4 << 20);
  const web = createServer((_request, response) => response.end(payload));
  await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
  const shell = await boot("net=passt,host=1");
  try {
    await addressOf(shell);
    const gateway = /default via ([\d.]+)/.exec(await runIn(shell, "ip route"))![1];
    const { port } = web.address() as AddressInfo;
    const sum = createHash("sha256").update(payload).digest("hex");
    assert.equal(await runIn(shell, `wget -q -O - http://${gateway}:${port}/ | sha256sum`), `${sum}  -`);
  } finally {
    await shell.destroy();
    web.closeAllConnections();
    web.close();
  }
});
