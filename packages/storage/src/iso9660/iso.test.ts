/** Disks of small files, mounted or listed by what is there to judge them. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { IsoImage } from "./iso-image.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-iso-"));
after(() => rmSync(folder, { recursive: true }));

const path = join(folder, "disk.iso");
const env = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`, LC_ALL: "C" };

function has(program: string): boolean {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore", env });
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ENOENT";
  }
}

test("blkid knows it by its label", (t) => {
  if (!has("blkid")) return t.skip("blkid is missing (Debian package util-linux)");
  writeFileSync(path, IsoImage.make({ "meta-data": "x" }, { label: "cidata", time: 1_700_000_000 }).bytes);
  const said = execFileSync("blkid", ["-p", "-o", "export", path], { encoding: "utf8", env });
  assert.match(said, /^LABEL=cidata$/m);
  assert.match(said, /^TYPE=iso9660$/m);
});

test("long names and all bytes are there", (t) => {
  if (!has("isoinfo")) return t.skip("isoinfo is missing (Debian package genisoimage)");
  const files = Object.fromEntries(
    Array.from({ length: 40 }, (_, n) => [`file-with-a-long-name.${n}`, "x".repeat(n * 100)]),
  );
  writeFileSync(path, IsoImage.make({ ...files, "user-data": "#cloud-config\n" }, { label: "CIDATA" }).bytes);
  const listed = execFileSync("isoinfo", ["-R", "-f", "-i", path], { encoding: "utf8" }).trim().split("\n");
  assert.deepEqual(listed.sort(), [...Object.keys(files), "user-data"].map((name) => `/${name}`).sort());
  const read = (name: string): string =>
    execFileSync("isoinfo", ["-R", "-x", `/${name}`, "-i", path], { encoding: "utf8" });
  assert.equal(read("user-data"), "#cloud-config\n");
  assert.equal(read("file-with-a-long-name.39"), "x".repeat(3900));
});

test("what it cannot have is refused", () => {
  assert.throws(() => IsoImage.make({ "a/b": "" }, { label: "X" }), /disk X: file "a\/b", expected letters/);
  assert.throws(() => IsoImage.make({ "..": "" }, { label: "X" }), /file "\.\."/);
  assert.throws(() => IsoImage.make({}, { label: "A B" }), /label is "A B", expected up to 32/);
  assert.throws(() => IsoImage.make({ a: new Uint8Array(65 << 20) }, { label: "X" }), /expected ≤ 67108864/);
});
