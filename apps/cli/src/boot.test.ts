/** `xeno try`, from the outside: a stock Debian kernel to its shell and back. Skipped where no package source is. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openPackageSource, PackageError } from "@xenoserver/toolstack/guest/index.ts";
import { xeno } from "./test-process.ts";

const mirror = process.env["XENO_DEBIAN_MIRROR"];
const unreachable = await openPackageSource(mirror === undefined ? {} : { mirror })
  .then((source) => source.find("busybox-static"))
  .then(() => false as const)
  .catch((error: unknown) => {
    if (error instanceof PackageError) return error.message;
    throw error;
  });

test("piped commands run in the guest's shell, and poweroff ends it with status 0", { skip: unreachable }, async () => {
  const input = 'echo "sum $((40 + 2))"\ncat /sys/hypervisor/type\npoweroff -f\n';
  const { status, stdout, stderr } = await xeno(["try", "--timeout=120"], { input });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /xeno: init reached\r\n/);
  assert.match(stdout, /\nsum 42\r\n/);
  assert.match(stdout, /\nxen\r\n/);
  assert.match(stderr, /xeno: booted in \d+\.\d s\. poweroff -f powers off, Ctrl-\] leaves\.\n/);
  assert.match(stderr, /xeno: debian powered off after \d+\.\d s \(boot to init \d+\.\d s\)\n$/);
});

test("where no Debian can be built, a sentence says so, and the busybox guest is there", {
  skip: unreachable,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "xeno-try-"));
  const script = '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "E: nothing to build with" >&2\nexit 1\n';
  // With the others there, too, nothing is missing that would be installed.
  for (const name of ["mmdebstrap", "newuidmap", "ssh-keygen"])
    writeFileSync(join(folder, name), script, { mode: 0o755 });
  const env = { XENO_STORE: join(folder, "store"), PATH: `${folder}:${process.env["PATH"]}` };
  try {
    const { status, stdout, stderr } = await xeno(["try", "--debian", "--timeout=120"], { input: "id -un\n", env });
    assert.equal(status, 0, stderr);
    assert.match(
      stderr,
      /xeno: no Debian can be built here, so this is the busybox guest: mmdebstrap for Debian bookworm failed: nothing/,
    );
    assert.match(stdout, /\nroot\r\n/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("what npm start shows behind the guest is told apart from its output, and leaves nothing behind", {
  skip: unreachable,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), "xeno-try-"));
  try {
    const options = { input: "echo bye\n", env: { TMPDIR: folder } };
    const { status, stdout, stderr } = await xeno(["try", "--demo", "--timeout=120"], options);
    assert.equal(status, 0, stderr);
    const [guest, demo] = stderr.split("next, a domain moves between two servers");
    assert.match(guest!, /xeno: debian powered off/);
    assert.match(
      demo!,
      /left {2}\| count 15 on[\s\S]*moved: \d+ MB in \d+ rounds?[\s\S]*right \| count \d+ on[\s\S]*left nothing out\n/,
    );
    for (const server of ["left", "right"])
      assert.match(demo!, new RegExp(`counter, on the ${server} server +\\d+ +\\d+\\.\\d`));
    assert.match(stdout, /\nbye\r\n/);
    assert.doesNotMatch(stdout, /count \d/);
    assert.deepEqual(readdirSync(folder), []);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the end of a piped input ends the shell, and with it the guest", { skip: unreachable }, async () => {
  const input = "cat > /tmp/typed\nlast line without an end";
  const { status, stdout, stderr } = await xeno(["try", "--timeout=120"], { input });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /last line without an end/);
  assert.match(stderr, /xeno: debian powered off after/);
});
