/** A stock Debian kernel on networks of ours. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { hostHasIpv6 } from "@xenoserver/network/user/ipv6.ts";
import { parseVif } from "../cfg/index.ts";
import { DebianGuest } from "../testing/debian-guest.ts";
import { GuestShell } from "../testing/guest-shell.ts";

const TIMEOUT_SECONDS = 240;
const PAYLOAD = randomBytes(8 << 20);
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const debian = await DebianGuest.open();
const skip = typeof debian === "string" ? debian : false;

/** A port of the host that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe("a user-mode network", { skip, timeout: 900_000 }, () => {
  let shell: GuestShell;
  let web: Server;
  let webPort: number;
  let forwarded: number;

  const run = async (command: string): Promise<string> => {
    const { output, status } = await shell.run(command, TIMEOUT_SECONDS);
    assert.equal(status, 0, `${command}: ${output}`);
    return output;
  };

  before(async () => {
    web = createServer((_request, response) => response.end(PAYLOAD));
    // Both the guest's ways lead to this host's loopback.
    await new Promise<void>((resolve) => web.listen(0, resolve));
    webPort = (web.address() as AddressInfo).port;
    forwarded = await freePort();
    const config = await (debian as DebianGuest).config(
      { packages: ["socat"], modules: ["xen-netfront"] },
      {
        vcpus: 2,
        memoryMib: 512,
        vifs: [parseVif(`mac=00:16:3e:11:22:33,host=1,forward=${forwarded}:80,forward=udp:${forwarded}:7`)],
      },
    );
    shell = await GuestShell.boot(config, TIMEOUT_SECONDS);
    await run("for n in $(seq 100); do grep -q nameserver /etc/resolv.conf && break; sleep 0.2; done");
  });
  after(async () => {
    await shell?.destroy();
    web.closeAllConnections();
    web.close();
  });

  test("DHCP gives the guest an address, a route and a resolver", async () => {
    const told = await run("ip addr show eth0; ip route; cat /etc/resolv.conf");
    assert.match(told, /00:16:3e:11:22:33/);
    assert.match(told, /inet 10\.0\.2\.15\/24/);
    assert.match(told, /default via 10\.0\.2\.2/);
    assert.match(told, /nameserver 10\.0\.2\.3/);
  });

  test("IPv6, where the host has it", async (t) => {
    if (!hostHasIpv6()) return t.skip("this host has no IPv6");
    await run(
      "for n in $(seq 50); do ip -6 addr show eth0 | grep -q 'fd78.*global' && break; sleep 0.2; done; sleep 2",
    );
    assert.match(await run("ping -6 -c 2 fd78:656e:6f00:2::2"), / 0% packet loss/);
    assert.equal(
      await run(`wget -q -O - 'http://[fd78:656e:6f00:2::2]:${webPort}/' | sha256sum`),
      `${sha256(PAYLOAD)}  -`,
    );
  });

  test("nonsense from a guest harms nobody", async () => {
    await run("for n in $(seq 15); do head -c $((n * 100)) /dev/urandom | socat -u - INTERFACE:eth0; done");
    assert.match(await run("ping -c 2 10.0.2.2"), / 0% packet loss/);
  });

  test("the gateway answers echoes", async () => {
    assert.match(await run("ping -c 3 10.0.2.2"), / 0% packet loss/);
  });

  test("the guest fetches what the host has", async () => {
    assert.equal(await run(`wget -q -O - http://10.0.2.2:${webPort}/ | sha256sum`), `${sha256(PAYLOAD)}  -`);
  });

  test("the host gets what the guest sends, and answers behind its end", async () => {
    const sum = await run("dd if=/dev/urandom of=/tmp/noise bs=64k count=100 2>/dev/null; sha256sum < /tmp/noise");
    const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
      const hash = createHash("sha256");
      socket.on("data", (bytes) => hash.update(bytes)).on("end", () => socket.end(hash.digest("hex")));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const answer = await run(`socat -t 60 - TCP:10.0.2.2:${(server.address() as AddressInfo).port} < /tmp/noise`);
      assert.equal(`${answer}  -`, sum);
    } finally {
      server.close();
    }
  });

  test("a connection to nobody is refused at once", async () => {
    const { output, status } = await shell.run(`socat - TCP:10.0.2.2:${await freePort()} < /dev/null 2>&1`);
    assert.equal(status, 1);
    assert.match(output, /refused/);
  });

  test("datagrams go and come", async () => {
    const server = createSocket("udp4");
    server.on("message", (bytes, { address, port }) => server.send(`you said ${bytes}`, port, address));
    await new Promise<void>((resolve) => server.bind(0, "127.0.0.1", resolve));
    try {
      assert.match(
        await run(`echo hello | socat -t 2 - UDP:10.0.2.2:${server.address().port} | head -n 1`),
        /you said hello/,
      );
    } finally {
      server.close();
    }
  });

  test("a forwarded port leads to the guest's web server", async () => {
    await run("mkdir -p /www && cp /tmp/noise /www/ && httpd -h /www");
    const body = Buffer.from(await (await fetch(`http://127.0.0.1:${forwarded}/noise`)).arrayBuffer());
    assert.equal(`${sha256(body)}  -`, await run("sha256sum < /tmp/noise"));
  });

  test("a port of the host serves one connection after the other, while the guest waits for strays of the last", async () => {
    await run("echo again > /www/again");
    const localPort = await freePort();
    const waiting = `:${localPort.toString(16).toUpperCase().padStart(4, "0")} 06 `;
    for (let n = 0; n < 8; n++) {
      const socket = connect({ port: forwarded, host: "127.0.0.1", localPort });
      socket.write("GET /again HTTP/1.0\r\n\r\n");
      let answer = "";
      for await (const bytes of socket) answer += bytes;
      assert.match(answer, /\r\n\r\nagain\n$/);
      // A connection that still ends would have the next one shown from another port.
      await run(`until cat /proc/net/tcp /proc/net/tcp6 | grep -q '${waiting}'; do sleep 0.1; done`);
    }
  });

  test("a forwarded port without a server behind it is reset", async () => {
    await run("killall httpd");
    await assert.rejects(fetch(`http://127.0.0.1:${forwarded}/`));
  });

  test("the host ends its half of a forwarded connection first", async () => {
    await run("(socat -t 60 TCP-LISTEN:80,reuseaddr SYSTEM:'sha256sum') & sleep 0.5");
    const socket = connect({ port: forwarded, host: "127.0.0.1", allowHalfOpen: true });
    socket.end(PAYLOAD.subarray(0, 1 << 20));
    let answer = "";
    for await (const bytes of socket) answer += bytes;
    assert.equal(answer, `${sha256(PAYLOAD.subarray(0, 1 << 20))}  -\n`);
  });

  test("datagrams are forwarded, and answered", async () => {
    await run("(socat UDP-RECVFROM:7,fork SYSTEM:cat) & sleep 0.5");
    const socket = createSocket("udp4");
    const answer = new Promise<Buffer>((resolve) => socket.once("message", resolve));
    // The server may not be there yet, and nobody else sends a lost datagram again.
    const again = setInterval(() => socket.send("forward and back", forwarded, "127.0.0.1"), 500);
    assert.equal(String(await answer), "forward and back");
    clearInterval(again);
    socket.close();
  });

  test("the guest's counters show no errors", async () => {
    assert.doesNotMatch(await run("dmesg"), /xen_netfront.*(error|Bad|broken)|net eth0:/i);
    assert.equal(await run("cat /sys/class/net/eth0/statistics/rx_errors"), "0");
  });
});
