/** The program in place of mmdebstrap is a script: what matters is what is made of its words. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import { bootstrap } from "./mmdebstrap.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-mmdebstrap-"));
const path = process.env["PATH"];
process.env["XDG_CACHE_HOME"] = folder;
afterEach(() => {
  process.env["PATH"] = path;
});
after(() => rmSync(folder, { recursive: true }));

/** Of a program that says this and ends so. */
async function outcome(script: string): Promise<string> {
  writeFileSync(join(folder, "mmdebstrap"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  process.env["PATH"] = folder;
  const options = { suite: "bookworm", packages: ["dash"], mirror: "http://localhost/debian", progress: () => {} };
  let text = "";
  for await (const piece of await bootstrap(options)) text += Buffer.from(piece).toString();
  return text;
}

test("what it writes is the archive", async () => {
  assert.equal(await outcome("echo tar"), "tar\n");
});

test("of its errors the one that tells most is passed on", async () => {
  await assert.rejects(outcome("echo 'E: setup failed' >&2; echo 'E: Unable to locate package dash' >&2; exit 25"), {
    name: "PackageError",
    message: "mmdebstrap for Debian bookworm failed: Unable to locate package dash",
  });
});

test("users whom it can do nothing for are told what to install", async () => {
  const { username } = userInfo();
  const words = "echo 'E: unable to pick chroot mode automatically (use --mode for manual selection)' >&2; exit 25";
  await assert.rejects(outcome(words), {
    name: "PackageError",
    message: `mmdebstrap cannot unpack packages as user ${username}, expected the Debian package uidmap: apt-get install uidmap`,
  });
  writeFileSync(join(folder, "newuidmap"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
  await assert.rejects(outcome(words), {
    message: new RegExp(
      `as user ${username}, expected (lines for ${username} in /etc/subuid|a kernel that lets users)`,
    ),
  });
});
