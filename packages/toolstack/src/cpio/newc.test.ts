import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type CpioEntry, writeNewc } from "./newc.ts";

/** Reads an archive back by the format's rules, independently of the writer. */
function readNewc(archive: Uint8Array) {
  const text = (from: number, to: number) => Buffer.from(archive.subarray(from, to)).toString("utf8");
  const entries = [];
  for (let at = 0; ; ) {
    assert.equal(text(at, at + 6), "070701");
    const field = (i: number) => Number.parseInt(text(at + 6 + i * 8, at + 14 + i * 8), 16);
    const nameEnd = at + 110 + field(11);
    const path = text(at + 110, nameEnd - 1);
    if (path === "TRAILER!!!") return entries;
    const dataAt = (nameEnd + 3) & ~3;
    const data = Buffer.from(archive.subarray(dataAt, dataAt + field(6))).toString("utf8");
    entries.push({ path, mode: field(1), data, device: [field(9), field(10)] });
    at = (dataAt + field(6) + 3) & ~3;
  }
}

test("every kind of entry", () => {
  const archive = writeNewc([
    { path: "dev", type: "directory", mode: 0o755 },
    { path: "dev/console", type: "char-device", mode: 0o600, major: 5, minor: 1 },
    { path: "init", type: "file", mode: 0o755, data: Buffer.from("#!/bin/sh\n") },
    { path: "bin", type: "symlink", mode: 0o777, target: "usr/bin" },
  ]);
  assert.equal(archive.length % 4, 0);
  assert.deepEqual(readNewc(archive), [
    { path: "dev", mode: 0o040755, data: "", device: [0, 0] },
    { path: "dev/console", mode: 0o020600, data: "", device: [5, 1] },
    { path: "init", mode: 0o100755, data: "#!/bin/sh\n", device: [0, 0] },
    { path: "bin", mode: 0o120777, data: "usr/bin", device: [0, 0] },
  ]);
});

test("any names and contents come back", () => {
  const entry = fc.record(
    {
      path: fc.string({ minLength: 1, unit: "grapheme" }).filter((p) => !p.startsWith("/") && !p.includes("\0")),
      data: fc.string(),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 5 }), (files) => {
      const entries = files.map(
        ({ path, data }): CpioEntry => ({ path, type: "file", mode: 0o644, data: Buffer.from(data) }),
      );
      assert.deepEqual(
        readNewc(writeNewc(entries)).map(({ path, data }) => ({ path, data })),
        files,
      );
    }),
  );
});

test("paths the kernel would not take are refused", () => {
  const file = (path: string) => () => writeNewc([{ path, type: "directory", mode: 0o755 }]);
  assert.throws(file(""), /cpio entry is called "", expected a relative path/);
  assert.throws(file("/etc"), /cpio entry is called "\/etc"/);
  assert.throws(file("x".repeat(4096)), /expected a relative path of 1 to 4095 bytes/);
});
