import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { syncFolder, syncFolderAtOnce } from "./durable.ts";

test("a folder is brought to the disk, and one that is not there is an error, with and without waiting", async () => {
  const folder = mkdtempSync(join(tmpdir(), "xeno-durable-"));
  await syncFolder(folder);
  syncFolderAtOnce(folder);
  rmSync(folder, { recursive: true });
  await assert.rejects(syncFolder(folder), { code: "ENOENT" });
  assert.throws(() => syncFolderAtOnce(folder), { code: "ENOENT" });
});
