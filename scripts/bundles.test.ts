/** What threads load, of which a domain has several. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { bundle, THREADS } from "./bundles.ts";

/** Loaded by Node for itself, or small. */
const LIGHT = ["node:fs", "node:url", "node:v8", "node:worker_threads", "node:zlib"];

describe("a thread's program", () => {
  // The one that fetches frames of a domain that moved is one, and ends when it has them.
  for (const thread of THREADS.filter((name) => !/later-thread/.test(name)))
    test(`${thread} is one file with a byte for each letter, and loads nothing heavy of Node's`, async () => {
      const { outputFiles = [], metafile } = await bundle({ entryPoints: [thread], outdir: "bundles", write: false });
      assert.equal(outputFiles.length, 1);
      assert.match(outputFiles[0]!.text, /^[\0-\x7f]+$/);
      const [output] = Object.values(metafile.outputs);
      assert.deepEqual(
        output!.imports.map(({ path }) => path).filter((path) => !LIGHT.includes(path)),
        [],
      );
    });
});
