import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { generateKey } from "openpgp";
import { MirrorSource } from "./mirror.ts";
import { PackageError } from "./package-source.ts";
import { readKeyring } from "./release-file.ts";
import { makeDeb, serveArchive, type TestArchive } from "./test-archive.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-mirror-"));
const cacheBefore = process.env["XDG_CACHE_HOME"];
const keyring = join(folder, "keys.asc");
let archive: TestArchive;

before(async () => {
  process.env["XDG_CACHE_HOME"] = join(folder, "cache");
  archive = await serveArchive([
    { name: "tool", depends: "libc6 (>= 2.3), awk | gawk, helper:any", contents: { "usr/bin/tool": "hello" } },
    { name: "libc6", depends: "libgcc-s1" },
    { name: "libgcc-s1", depends: "libc6" },
    { name: "mawk", provides: "awk" },
    { name: "helper" },
    { name: "broken", depends: "nowhere | nothing" },
  ]);
  writeFileSync(keyring, archive.publicKey);
});

after(() => {
  archive.close();
  if (cacheBefore === undefined) delete process.env["XDG_CACHE_HOME"];
  else process.env["XDG_CACHE_HOME"] = cacheBefore;
  rmSync(folder, { recursive: true });
});

const open = (url = archive.url, keys = keyring) => MirrorSource.open({ mirror: url, suite: "testing", keyring: keys });
const refused = (promise: Promise<unknown>, message: RegExp) =>
  assert.rejects(promise, (error) => error instanceof PackageError && message.test(error.message));

describe("a mirror", () => {
  test("gives packages whose hashes a key vouches for", async () => {
    const source = await open();
    const path = await source.download(await source.find("tool"));
    assert.deepEqual(readFileSync(path), makeDeb({ "usr/bin/tool": "hello" }));
    assert.equal(source.suite, "testing");
  });

  test("resolves dependencies, alternatives and virtual packages", async () => {
    const source = await open();
    const names = (await source.closure(["tool"])).map(({ name }) => name);
    assert.deepEqual(names.sort(), ["helper", "libc6", "libgcc-s1", "mawk", "tool"]);
    await refused(source.closure(["broken"]), /nowhere \| nothing: is wanted by broken and not in the archive/);
    await refused(source.find("absent"), /package absent: Debian testing has no such package/);
  });

  test("a changed package is refused, and a cached one is not fetched again", async () => {
    const source = await open();
    const record = await source.find("mawk");
    const good = archive.files.get("/pool/mawk_1.0_amd64.deb")!;
    archive.files.set("/pool/mawk_1.0_amd64.deb", Buffer.from(good).fill(1, 100, 101));
    await refused(source.download(record), /package mawk: SHA-256 is [0-9a-f]{64}, expected/);
    archive.files.set("/pool/mawk_1.0_amd64.deb", good.subarray(1));
    await refused(source.download(record), /package mawk: got \d+ bytes, expected \d+/);
    archive.files.set("/pool/mawk_1.0_amd64.deb", good);
    const path = await source.download(record);
    archive.files.delete("/pool/mawk_1.0_amd64.deb");
    assert.equal(await source.download(record), path);
  });

  test("signatures by other keys, changed lists and changed texts are refused", async () => {
    const other = join(folder, "other.asc");
    writeFileSync(other, (await generateKey({ userIDs: [{ name: "someone" }] })).publicKey);
    await refused(
      open(archive.url, other),
      /InRelease: is signed by [0-9a-f]{16}, expected a valid signature by one of the keyring's 1 keys/,
    );

    const release = archive.files.get("/dists/testing/InRelease")!;
    archive.files.set(
      "/dists/testing/InRelease",
      Buffer.from(release.toString().replace("Codename: testing", "Codename: evil")),
    );
    await refused(open(), /expected a valid signature/);
    archive.files.set("/dists/testing/InRelease", Buffer.from("Codename: testing\nSHA256:\n"));
    await refused(open(), /is no clear-signed message/);
    archive.files.set("/dists/testing/InRelease", release);
  });

  test("text before the signed part does not count", async () => {
    const release = archive.files.get("/dists/testing/InRelease")!;
    archive.files.set("/dists/testing/InRelease", Buffer.concat([Buffer.from("Codename: evil\n"), release]));
    const outcome = await open().catch((error: unknown) => error);
    assert.ok(outcome instanceof PackageError || (outcome as MirrorSource).suite === "testing");
    archive.files.set("/dists/testing/InRelease", release);
  });

  test("lists past their date are refused", async () => {
    const old = await serveArchive([{ name: "tool" }], new Date(Date.now() - 1000));
    try {
      writeFileSync(join(folder, "old.asc"), old.publicKey);
      await refused(open(old.url, join(folder, "old.asc")), /is valid until .*, expected later than now/);
    } finally {
      old.close();
    }
  });

  test("what is no mirror is named", async () => {
    await refused(open("ftp://x"), /mirror is ftp:\/\/x, expected an address such as http/);
    await refused(open(`${archive.url}/nowhere`), /InRelease: the mirror answers 404 Not Found, expected 200/);
    await refused(open("http://127.0.0.1:1"), /InRelease: cannot be fetched/);
    await refused(open(archive.url, join(folder, "absent.asc")), /keyring .*absent\.asc: holds no OpenPGP public keys/);
  });
});

test("the keys that come with the project are Debian's six", async () => {
  const keys = await readKeyring();
  const fingerprints = keys.map((key) => key.getFingerprint().toUpperCase()).sort();
  const listed = readFileSync(new URL("./debian-archive-keys.asc", import.meta.url), "utf8").match(/^[0-9A-F]{40}/gm);
  assert.deepEqual(fingerprints, listed?.sort());
  assert.equal(keys.length, 6);
});
