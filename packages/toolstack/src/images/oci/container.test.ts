/** A container's image booted: its program, commands beside it, and files. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ImageStore } from "@xenoserver/storage";
import { domainConfig, parseCfg } from "../../cfg/index.ts";
import { findInDeb } from "../../deb/deb.ts";
import { DebianGuest } from "../../testing/debian-guest.ts";
import { ConsoleSession } from "../../testing/guest-shell.ts";
import { TestImage } from "../../testing/oci-image.ts";
import { bootFromImage } from "../boot-settings.ts";
import { importOci } from "./import-oci.ts";
import { openOci } from "./open.ts";

const TIMEOUT_SECONDS = 240;
const folder = mkdtempSync(join(tmpdir(), "xeno-container-"));
const storeBefore = process.env["XENO_STORE"];
let guest: DebianGuest | string;

before(async () => {
  process.env["XENO_STORE"] = join(folder, "store");
  guest = await DebianGuest.open();
});
after(() => {
  if (storeBefore === undefined) delete process.env["XENO_STORE"];
  else process.env["XENO_STORE"] = storeBefore;
  rmSync(folder, { recursive: true });
});

/** Nothing but busybox, under the names that the test needs. */
async function importContainer(debian: DebianGuest): Promise<void> {
  const deb = readFileSync(await debian.source.download(await debian.source.find("busybox-static")));
  const busybox = findInDeb(deb, "busybox-static", /bin\/busybox$/)!.data;
  const names = ["sh", "cat", "id", "echo", "sha256sum", "head", "ls", "hostname"];
  const image = await TestImage.make(
    [
      [
        { name: "bin/busybox", data: busybox, mode: 0o755 },
        { name: "etc/passwd", data: "root:x:0:0::/root:/bin/sh\nweb:x:7:8::/srv:/bin/sh\n" },
      ],
      names.map((name) => ({ name: `bin/${name}`, type: "symlink", linkname: "busybox" })),
      [{ name: "srv/owned", data: "data\n", uid: 7, gid: 8, mode: 0o600 }],
    ],
    {
      Entrypoint: ["sh", "-c"],
      Cmd: ["id; pwd; echo $GREETING; cat owned; ls /proc/1/exe >/dev/null; read line; echo got $line; exit 4"],
      Env: ["GREETING=hello container", "PATH=/bin"],
      WorkingDir: "/srv",
      User: "web",
    },
  );
  image.writeLayout(join(folder, "layout"));
  const opened = await openOci(`oci:${join(folder, "layout")}`);
  await importOci(await ImageStore.open(join(folder, "store")), opened, {
    name: "box:1",
    source: debian.source,
    progress: () => {},
  });
  await opened.close();
}

test("a container's image boots, runs its program, and serves commands beside it", { timeout: 600_000 }, async (t) => {
  if (typeof guest === "string") return t.skip(guest);
  await importContainer(guest);
  const settings = parseCfg('name = "box"\ndisk = ["box:1,image,xvda"]\nmemory = 128\n', "box.cfg");
  await bootFromImage(settings);
  const session = await ConsoleSession.start(domainConfig(settings, "box.cfg").config);
  try {
    const console = await session.until(/data\r?\n/, TIMEOUT_SECONDS);
    assert.match(console, /uid=7\(web\) gid=8 groups=8\r?\n\/srv\r?\nhello container\r?\ndata/);

    const agent = await session.domain.agent();
    await agent.ready(TIMEOUT_SECONDS * 1000);
    const { stdout, status } = await agent.exec(["sh", "-c", "echo $GREETING; pwd; id -u; cat; exit 9"], {
      stdin: "in\n",
    });
    assert.deepEqual([String(stdout), status], ["hello container\n/srv\n7\nin\n", 9]);
    const asRoot = { user: { uid: 0, gids: [0] }, cwd: "/" };
    assert.equal(String((await agent.exec(["id", "-u"], asRoot)).stdout), "0\n");

    const bytes = Buffer.from(Uint8Array.from({ length: 100_000 }, (_, n) => (n * 7 + (n >> 8)) & 0xff));
    const echoed = await Promise.all([1, 2].map(() => agent.exec(["cat"], { stdin: bytes })));
    for (const one of echoed) assert.ok(one.stdout.equals(bytes), "every byte, both ways, twice at once");
    await agent.writeFile("/srv/file", bytes, 0o600);
    const read: Uint8Array[] = [];
    for await (const piece of agent.readFile("/srv/file")) read.push(piece);
    assert.ok(Buffer.concat(read).equals(bytes));

    await session.type("a line\n");
    await session.until(/got a line\r?\nxeno: the image's program ended with status 4/, TIMEOUT_SECONDS);
    assert.equal((await session.exited).reason, "poweroff");
    assert.throws(() => agent.start({ args: ["true"] }), /the domain ended/);
  } finally {
    await session.destroy();
  }
});
