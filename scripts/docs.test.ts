/** Documents name files that are there: links between them, and source files by the end of their path. */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";
import { ROOT } from "./pinned-node.mjs";

const documents = globSync(["*.md", "docs/**/*.md", "packages/*/README.md", "apps/*/README.md", "bench/*.md"], {
  cwd: ROOT,
});
const files = globSync(["{packages,apps,scripts,bench}/**/*.{ts,mts,mjs}"], {
  cwd: ROOT,
  exclude: ["**/node_modules/**"],
});

test("decisions have numbers of their own, which their titles repeat", () => {
  const records = documents.filter((document) => document.startsWith("docs/decisions/"));
  const numbers = records.map((document) => basename(document).slice(0, 4));
  assert.equal(new Set(numbers).size, records.length, numbers.join());
  for (const [n, document] of records.entries())
    assert.match(readFileSync(join(ROOT, document), "utf8"), new RegExp(`^# ${numbers[n]} `), document);
});

for (const document of documents) {
  const text = readFileSync(join(ROOT, document), "utf8");

  test(`${document}: links lead somewhere`, () => {
    const targets = [...text.matchAll(/\]\((?!https?:)([^)#\s]+)/g)].map(([, target]) => target!);
    assert.deepEqual(
      targets.filter((target) => !existsSync(join(ROOT, dirname(document), target))),
      [],
    );
  });

  test(`${document}: source files are there`, () => {
    const named = [...text.matchAll(/`([\w@./-]+\.(?:ts|mts|mjs))`/g)].map(([, name]) => name!);
    const missing = named.filter((name) => !files.some((file) => file === name || file.endsWith(`/${name}`)));
    assert.deepEqual(missing, []);
  });
}
