import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { freemem, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { spinGuest } from "@xenoserver/testkit";
import { configOf } from "@xenoserver/toolstack/control/index.ts";
import { DomainProcess } from "@xenoserver/toolstack/testing/domain-process.ts";
import { promisedBy, refuseTooLarge } from "./spare-memory.ts";

const MIB = 2 ** 20;
const { config } = configOf({ name: "next", kernel: "/k", memory: 64 }, "t");
const ABSENT = "/nowhere/domains/1";
/** More than this host has. */
const WHOLE_MIB = Math.ceil(freemem() / MIB) * 2;

/** Of the sentence that refuses a domain beside these. */
function untouchedBeside(folder: string, mib: number): number {
  try {
    refuseTooLarge(config, [{ folder, mib }]);
  } catch (error) {
    const { status, message } = error as { status: number; message: string };
    const sentence =
      /^domain next needs 264 MiB with its overhead, expected ≤ 0 that are free: others have yet to touch (\d+) of \d+$/;
    assert.equal(status, 409);
    assert.match(message, sentence);
    return Number(sentence.exec(message)![1]);
  }
  throw new assert.AssertionError({ message: "it was not refused" });
}

test("a domain is promised what it has from the start, and its overhead", () => {
  assert.equal(promisedBy({ kernel: "/k", memory: 64 }), 264);
  assert.equal(promisedBy({ kernel: "/k", memory: 64, maxmem: 512 }), 264);
  assert.equal(promisedBy({ memory: "much" }), 0);
});

test("one that this host has the memory for is not refused", () => {
  refuseTooLarge(config, []);
  refuseTooLarge(config, [{ folder: ABSENT, mib: 1 }]);
});

test("what others were promised and have not touched is not there for the next", () => {
  assert.equal(untouchedBeside(ABSENT, WHOLE_MIB), WHOLE_MIB);
});

test("what they have touched already is not counted twice", { skip: process.platform !== "linux" }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "xeno-spare-"));
  const kernel = join(folder, "kernel");
  writeFileSync(kernel, spinGuest());
  const domain = DomainProcess.start({ name: "one", kernel, memory: 32 }, { paused: true });
  try {
    await domain.client();
    const untouched = untouchedBeside(domain.folder, WHOLE_MIB);
    assert.ok(untouched < WHOLE_MIB - 30 && untouched > WHOLE_MIB - 1000, `${untouched} of ${WHOLE_MIB}`);
  } finally {
    await domain.remove();
    rmSync(folder, { recursive: true });
  }
});
