import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { programUrl, readBundles } from "./program.ts";

test("bundles count as long as every source is as it was", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "xeno-bundles-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const root = pathToFileURL(`${folder}/`);
  const list = new URL("bundles.json", root);
  assert.equal(readBundles(list, root), undefined);
  const source = join(folder, "a.ts");
  writeFileSync(source, "one");
  const { mtimeMs, size, mtime, atime } = statSync(source);
  writeFileSync(list, JSON.stringify({ programs: { "a.ts": "1/a.mjs" }, sources: { "a.ts": [mtimeMs, size] } }));
  assert.equal(readBundles(list, root)?.programs["a.ts"], "1/a.mjs");
  utimesSync(source, atime, new Date(mtime.getTime() + 1000));
  assert.equal(readBundles(list, root), undefined, "with another time");
  rmSync(source);
  assert.equal(readBundles(list, root), undefined, "without the source");
  writeFileSync(list, "{");
  assert.equal(readBundles(list, root), undefined, "with a damaged list");
});

test("what has no bundle is run from its source", () => {
  const source = new URL("./no-program.ts", import.meta.url);
  assert.equal(programUrl(source).href, source.href);
});
