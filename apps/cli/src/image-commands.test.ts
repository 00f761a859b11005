/** `xeno image` and `xeno run --image`, from the outside. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { spinGuest } from "@xenoserver/testkit";
import { TestImage } from "@xenoserver/toolstack/testing/oci-image.ts";
import { xeno } from "./test-process.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-image-commands-"));
const env = { XENO_STORE: join(folder, "store") };
const run = (args: readonly string[], more: Readonly<Record<string, string>> = {}) =>
  xeno(args, { env: { ...env, ...more } });
after(() => rmSync(folder, { recursive: true }));

describe("containers' images", () => {
  before(async () => {
    const image = await TestImage.make([[{ name: "hello", data: "hello" }]], { Cmd: ["/hello"] });
    writeFileSync(join(folder, "image.tar"), await image.layoutArchive());
  });

  test("come from an archive, and go by names", async () => {
    const { status, stdout, stderr } = await run([
      "image",
      "import",
      join(folder, "image.tar"),
      "hello:1",
      "--disk-only",
    ]);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^hello:1 [0-9a-f]{16} 1024\.0 MiB, \d+\.\d MiB in use \(container\)\n$/);
    assert.match(
      (await run(["image", "info", "hello:1"])).stdout,
      /^digest +[0-9a-f]{64}\nsize +1024\.0 MiB.*\nos +container\n/,
    );
    assert.equal((await run(["image", "tag", "hello:1", "hello:latest"])).status, 0);
    assert.equal((await run(["image", "rm", "hello:1"])).status, 0);
    assert.match((await run(["image", "ls"])).stdout, /^hello:latest [0-9a-f]{16} 1024\.0 MiB\n$/);
  });

  test("that bring no kernel are not run without one", async () => {
    const { status, stderr } = await run(["run", "--image", "hello:latest"]);
    assert.equal(status, 2);
    assert.match(stderr, /kernel is missing, and image hello:latest brings none; expected kernel = "PATH"/);
  });

  test("that are somewhere else, or nowhere, are named", async () => {
    const missing = await run(["image", "import", "oci:./nowhere.tar", "x"]);
    assert.deepEqual([missing.status, missing.stderr], [1, "xeno: ./nowhere.tar: no such file or folder\n"]);
    const odd = await run(["image", "import", "oci:NOWHERE", "x"]);
    assert.match(odd.stderr, /^xeno: reference is "NOWHERE", expected HOST\/NAME/);
  });
});

describe("mistakes are one sentence", () => {
  const cases: readonly (readonly [string, readonly string[], number, RegExp])[] = [
    [
      "a source that is none",
      ["image", "build", "fedora:40", "x"],
      2,
      /^xeno: source is "fedora:40", expected such as debian:12\n$/,
    ],
    [
      "a release that is none",
      ["image", "build", "debian:7", "x"],
      1,
      /^xeno: release is "7", expected 11, 12, 13, 14 or a code name such as bookworm\n$/,
    ],
    [
      "a package that is none",
      ["image", "build", "debian:12", "x", "--package", "-o"],
      1,
      /^xeno: package "-o": expected the name/,
    ],
    [
      "a host's name that is none",
      ["image", "build", "debian:12", "x", "--hostname", "a b"],
      2,
      /^xeno: hostname is "a b", expected/,
    ],
    [
      "an image that is not there",
      ["run", "--image", "nothing"],
      2,
      /disk xvda: image nothing: there is none of this name\n$/,
    ],
    ["a name that is none", ["run", "--image", "a,b"], 2, /image is "a,b", expected a name/],
    ["two disks in one place", ["run", "--image", "x", 'disk=["y,image,xvda"]'], 2, /--image stands beside disk=/],
    [
      "an address that is none",
      ["run", "--image", "x", "--address", "10.0.2.20"],
      2,
      /address is "10.0.2.20", expected such as 10.0.2.20\/24/,
    ],
    [
      "a first start of nothing",
      ["run", "--hostname", "x", "kernel=/dev/null"],
      2,
      /--hostname and --address go with --image/,
    ],
    [
      "user data that are not there",
      ["run", "--image", "x", "--user-data", "/nowhere"],
      2,
      /^xeno: user data \/nowhere: /,
    ],
    ["a domain on an image that is not there", ["create", "--image", "nothing"], 2, /image nothing: there is none/],
    ["a domain of nothing", ["create"], 2, /nothing to create, expected FILE\.cfg, kernel=PATH or --image NAME/],
    ["a domain on another server's image", ["create", "--image", "x"], 2, /--image stands beside \$XENO_AGENT/],
    ["nothing to delete", ["run", "--rm", "kernel=/dev/null"], 2, /--rm, but no disk is on an image/],
  ];
  for (const [what, args, wanted, message] of cases) {
    test(what, async () => {
      const server = what.includes("another server") ? { XENO_AGENT: "there:1" } : {};
      const { status, stdout, stderr } = await run(args, server);
      assert.deepEqual([status, stdout], [wanted, ""]);
      assert.match(stderr, message);
    });
  }

  test("a key that is no public one", async () => {
    const key = join(folder, "id");
    writeFileSync(key, "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n");
    const { status, stderr } = await run(["image", "build", "debian:12", "x", "--ssh-key", key]);
    assert.equal(status, 2);
    assert.match(stderr, /has a private key in it, expected one public key such as id_ed25519\.pub\n$/);
  });

  test("no mmdebstrap", async () => {
    const { status, stderr } = await run(["image", "build", "debian:12", "x"], { PATH: join(folder, "nothing") });
    assert.equal(status, 1);
    assert.match(
      stderr,
      /^xeno: mmdebstrap is not installed, expected the Debian package of this name: apt-get install/,
    );
  });
});

test("a domain under the agent has a disk and a network of its own on an image", {
  skip: process.platform === "win32",
}, async () => {
  const home = mkdtempSync(join(folder, "agent-"));
  const [disk, guest, data] = ["disk.img", "guest", "user-data"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(disk, new Uint8Array(1 << 20));
  writeFileSync(guest, spinGuest());
  writeFileSync(data, "#cloud-config\n");
  const ok = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await run(args, { XENO_AGENT_HOME: home });
    assert.equal(status, 0, stderr);
    return stdout;
  };
  await ok("image", "import", disk, "data:1", "--format", "raw");
  const settings = [`kernel=${guest}`, "memory=32", "--paused", "--overcommit"];
  try {
    await ok("create", "--image", "data:1", "name=one", "--user-data", data, "--hostname", "told", ...settings);
    await ok("create", "--image", "data:1", ...settings);
    const names = (await ok("list")).split("\n").slice(1, 3);
    assert.match(names[0]!, /^one /);
    assert.match(names[1]!, /^data-1-[0-9a-f]{8} /);
    const store = await ok("xenstore-ls", "one");
    assert.match(store, /dev = "xvdz"/);
    const seeds = readdirSync(join(home, "seeds"));
    assert.equal(seeds.length, 1);
    const seed = join(home, "seeds", seeds[0]!);
    assert.equal(statSync(seed).mode & 0o777, 0o600);
    assert.match(readFileSync(seed, "latin1"), /"local-hostname":"told"/);
    assert.match(store, /mac = "00:16:3e:/);
    assert.deepEqual(
      readdirSync(join(env.XENO_STORE, "overlays")).filter((name) => name.startsWith("one-")),
      ["one-xvda"],
    );
  } finally {
    for (const line of (await ok("list")).split("\n").slice(1, -1)) await ok("destroy", line.split(" ")[0]!);
    await ok("agent", "stop");
  }
});

test("a program that fails leaves one sentence and nothing behind", {
  skip: process.platform === "win32",
}, async () => {
  const bin = mkdtempSync(join(folder, "bin-"));
  const script =
    '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "I: running apt-get update..." >&2\necho "E: Unable to locate package nonsense" >&2\nexit 25\n';
  writeFileSync(join(bin, "mmdebstrap"), script, { mode: 0o755 });
  const temporary = mkdtempSync(join(folder, "tmp-"));
  const more = { PATH: `${bin}:${process.env["PATH"]}`, TMPDIR: temporary };
  const options = ["--mirror", "http://127.0.0.1:1/debian"];
  const { status, stderr } = await run(["image", "build", "debian:12", "x", "--package", "nonsense", ...options], more);
  assert.equal(status, 1);
  assert.match(
    stderr,
    /^xeno: running apt-get update\nxeno: mmdebstrap for Debian bookworm failed: Unable to locate package nonsense\n$/,
  );
  assert.deepEqual(readdirSync(temporary), []);
  assert.equal((await run(["image", "ls"])).stdout.includes("x "), false);
});

test("a signal ends it in order", { skip: process.platform === "win32" }, async () => {
  const bin = mkdtempSync(join(folder, "bin-"));
  const script =
    '#!/bin/sh\n[ "$1" = --version ] && exit 0\ntrap \'echo stopped > "$XENO_STORE/stopped"; exit 1\' TERM\necho "I: downloading packages..." >&2\nsleep 60 & wait\n';
  writeFileSync(join(bin, "mmdebstrap"), script, { mode: 0o755 });
  let sent = false;
  const { status, stderr } = await xeno(["image", "build", "debian:12", "x", "--mirror", "http://127.0.0.1:1/debian"], {
    env: { ...env, PATH: `${bin}:${process.env["PATH"]}` },
    onOutput: (child, soFar) => {
      if (sent || !soFar.includes("downloading")) return;
      sent = true;
      child.kill("SIGTERM");
    },
  });
  assert.equal(status, 143, stderr);
  assert.match(stderr, /interrupted, nothing was kept\n$/);
  assert.ok(readdirSync(env.XENO_STORE).includes("stopped"), "the program was asked to end");
});
