/**
 * Stock Debian kernels on a bridge of the host, in a network that this process has for itself. Skipped where no package source can be reached,
 * or no interfaces can be made.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { enterOwnNetwork, interfaceNames, ip } from "@xenoserver/network/testing/own-network.ts";
import { type DomainConfig, parseVif, specOfConfig } from "../cfg/index.ts";
import { RecordType } from "../save/records.ts";
import { ConsoleReader } from "../testing/console-reader.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import type { DomainProcess } from "../testing/domain-process.ts";
import { GuestShell } from "../testing/guest-shell.ts";
import { moveTo, reportOf, TestServer } from "../testing/moving-servers.ts";
import { openBridge } from "./bridge.ts";

const TIMEOUT_SECONDS = 240;
const BRIDGE = "xenbr0";
const HOST = "192.168.77.1";
const PAYLOAD = randomBytes(8 << 20);
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const debian = await DebianGuest.open();
const configOf = (vif: string): Promise<DomainConfig> =>
  (debian as DebianGuest).config(
    { packages: ["socat"], modules: ["xen-netfront"] },
    { memoryMib: 256, vifs: [parseVif(vif)] },
  );
// Packages come from a network that is out of reach afterwards.
const configs =
  typeof debian === "string"
    ? []
    : [
        await configOf(`mac=00:16:3e:00:00:01,bridge=${BRIDGE},vifname=vif1.0`),
        await configOf(`mac=00:16:3e:00:00:02,net=tap,bridge=${BRIDGE}`),
      ];
const skip = (typeof debian === "string" ? debian : enterOwnNetwork()) ?? false;

before(() => {
  if (skip !== false) return;
  ip(`link add ${BRIDGE} type bridge`);
  ip(`addr add ${HOST}/24 dev ${BRIDGE}`);
  ip(`link set ${BRIDGE} up`);
});

/** Nobody gives addresses here; the guest's init asks for one in vain. */
const setAddress = (address: string): string =>
  `killall udhcpc 2>/dev/null; ip link set eth0 up; ip addr add ${address}/24 dev eth0`;

/** Ends when something in the guest listens for TCP there, or with an error after some time. */
function untilListening(port: number): string {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const listens = `grep -q ':${hex} .* 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null`;
  return `n=0; until ${listens} || [ $n = 300 ]; do n=$((n+1)); sleep 0.1; done; [ $n != 300 ]`;
}

describe("two domains on a bridge of the host", { skip, timeout: 900_000 }, () => {
  const shells: GuestShell[] = [];

  const runIn = async (n: number, command: string): Promise<string> => {
    const { output, status } = await shells[n]!.run(command, TIMEOUT_SECONDS);
    assert.equal(status, 0, `${command}: ${output}`);
    return output;
  };

  before(async () => {
    for (const config of configs) shells.push(await GuestShell.boot(config, TIMEOUT_SECONDS));
    for (const n of [0, 1]) await runIn(n, setAddress(`192.168.77.${n + 11}`));
  });
  after(async () => {
    for (const shell of shells) await shell.destroy();
  });

  test("their interfaces are the bridge's ports, by their names", () => {
    const ports = JSON.parse(ip(`-json link show master ${BRIDGE}`)) as { readonly ifname: string }[];
    assert.deepEqual(ports.map(({ ifname }) => ifname).sort(), ["vif1.0", "xeno0"]);
    assert.match(ip("link show vif1.0"), /NOARP/);
  });

  test("they reach the host and one another", async () => {
    assert.match(await runIn(0, `ping -c 3 ${HOST}`), / 0% packet loss/);
    assert.match(await runIn(1, "ping -c 3 192.168.77.11"), / 0% packet loss/);
  });

  test("a guest fetches what the host has, in frames larger than the wire carries", async () => {
    const web = createServer((_request, response) => response.end(PAYLOAD)).listen(0, HOST);
    await once(web, "listening");
    const { port } = web.address() as AddressInfo;
    const counts = async (): Promise<number[]> =>
      (await runIn(0, "cd /sys/class/net/eth0/statistics; cat rx_packets rx_bytes")).split("\n").map(Number);
    const [packetsBefore, bytesBefore] = await counts();
    assert.equal(await runIn(0, `wget -q -O - http://${HOST}:${port}/ | sha256sum`), `${sha256(PAYLOAD)}  -`);
    const [packets, bytes] = await counts();
    const each = (bytes! - bytesBefore!) / (packets! - packetsBefore!);
    assert.ok(each > 3000, `${each} bytes in a packet`);
    web.closeAllConnections();
    web.close();
  });

  test("the host gets what a guest sends", async () => {
    const sum = await runIn(1, "dd if=/dev/urandom of=/tmp/noise bs=64k count=100 2>/dev/null; sha256sum < /tmp/noise");
    const server = createTcpServer({ allowHalfOpen: true }, (socket: Socket) => {
      const hash = createHash("sha256");
      socket.on("data", (bytes) => hash.update(bytes)).on("end", () => socket.end(hash.digest("hex")));
    }).listen(0, HOST);
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    assert.equal(`${await runIn(1, `socat -t 60 - TCP:${HOST}:${port} < /tmp/noise`)}  -`, sum);
    server.close();
  });

  test("megabytes go from one to the other unharmed", async () => {
    await runIn(0, "(socat -u TCP-LISTEN:7000 CREATE:/tmp/noise; echo done > /tmp/over) &");
    await runIn(0, untilListening(7000));
    await runIn(1, "socat -u OPEN:/tmp/noise TCP:192.168.77.11:7000");
    await runIn(0, "for n in $(seq 100); do [ -s /tmp/over ] && break; sleep 0.2; done");
    assert.equal(await runIn(0, "sha256sum < /tmp/noise"), await runIn(1, "sha256sum < /tmp/noise"));
  });

  test("the host reaches a guest's server", async () => {
    await runIn(1, "(socat TCP-LISTEN:80,reuseaddr SYSTEM:'echo you reached me') &");
    await runIn(1, untilListening(80));
    let answer = "";
    for await (const bytes of connect(80, "192.168.77.12")) answer += bytes;
    assert.equal(answer, "you reached me\n");
  });

  test("a guest that uses another's address is not heard", async () => {
    await runIn(0, "ip link set eth0 down; ip link set eth0 address 00:16:3e:00:00:02; ip link set eth0 up");
    assert.match((await shells[0]!.run(`ping -c 2 -W 1 ${HOST}`, TIMEOUT_SECONDS)).output, /100% packet loss/);
  });

  test("a switch of ours is not called as an interface of the host", async () => {
    await assert.rejects(openBridge(BRIDGE, { log: () => {} }), {
      name: "ConfigError",
      message: `bridge ${BRIDGE}: this host has an interface of that name, expected another`,
    });
  });

  test("their interfaces go when they end", async () => {
    for (const shell of shells.splice(0)) await shell.destroy();
    assert.deepEqual(interfaceNames().sort(), ["lo", BRIDGE].sort());
  });
});

test("a connection to a domain goes on when it moves, and when it comes back as that fails; killed, it leaves no interface", {
  skip,
  timeout: 900_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "xeno-host-bridge-"));
  const [left, right] = [new TestServer(join(folder, "left")), new TestServer(join(folder, "right"))];
  const consoleOf = async (domain: DomainProcess): Promise<ConsoleReader> => {
    const reader = new ConsoleReader(await domain.client());
    await reader.client.call("console-follow", {});
    return reader;
  };
  let socket: Socket | undefined;
  try {
    const spec = specOfConfig(configs[0]!);
    const first = left.start(spec);
    const console = await consoleOf(first);
    await console.until(/xeno: init reached.*# /s);
    await console.run(setAddress("192.168.77.11"));
    await console.run("socat TCP-LISTEN:7,reuseaddr EXEC:cat > /dev/null 2>&1 < /dev/null & sleep 1");
    const connection = connect(7, "192.168.77.11");
    socket = connection;
    const echoes = async (text: string): Promise<void> => {
      connection.write(text);
      const [answer] = (await once(connection, "data")) as [Buffer];
      assert.equal(answer.toString(), text);
    };
    await echoes("here");
    const failed = await moveTo(right, first, spec, {
      fault: { by: "sender", cutAt: (type) => type === RecordType.commit },
    });
    assert.ok(failed.sent instanceof Error, String(failed.sent));
    await failed.there.gone;
    await console.client.call("unpause", {});
    await echoes("here still");
    const move = await moveTo(right, first, spec);
    reportOf(move);
    await echoes("there");
    assert.ok(interfaceNames().includes("vif1.0"));
    move.there.child.kill("SIGKILL");
    await move.there.gone;
    assert.deepEqual(interfaceNames().sort(), ["lo", BRIDGE].sort());
  } finally {
    socket?.destroy();
    for (const server of [left, right]) await server.remove();
    rmSync(folder, { recursive: true });
  }
});
