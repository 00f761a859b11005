import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { buildGuest, ecx, edx, ShutdownReason } from "@xenoserver/testkit";
import { machineCode } from "@xenoserver/xen/host/machine-code/machine-code.ts";
import { runTiny } from "../testing/tiny-domain.ts";
import { TranslationFile } from "./translation-file.ts";

const skip = machineCode() === undefined && "machine code cannot be had here";
const folder = mkdtempSync(join(tmpdir(), "xeno-kept-"));
process.env["XENO_TRANSLATIONS"] = folder;
after(() => rmSync(folder, { recursive: true }));

/** Works long enough to be translated and optimised, and says so if it reckoned right. */
const busy = buildGuest(64, (a) => {
  a.mov(ecx, 300_000_000).xor(edx, edx);
  a.label("again").call("add").sub(ecx, 1).jcc("ne", "again");
  a.cmp(edx, 600_000_000).jcc("ne", "wrong").say("reckoned right\n").label("wrong").shutdown(ShutdownReason.poweroff);
  a.label("add").add(edx, 2).ret();
});

async function runBusy(): Promise<void> {
  const { report, log } = await runTiny(busy);
  assert.equal(report.reason, "poweroff");
  assert.ok(
    log.some((line) => line.includes("reckoned right")),
    log.join("\n"),
  );
}
const files = (kind: RegExp): string[] => readdirSync(folder).filter((name) => kind.test(name));
/** Identities of what is kept. */
const kept = (): number[] => {
  const [name] = files(/^(?!0{16}).*-i32\.kept$/);
  if (name === undefined) return [];
  const { found } = TranslationFile.open(join(folder, name))!;
  return Array.from({ length: found.count }, (_, number) => found.identityOf(number));
};

test("what one domain's guest made hot, the next one's has from the start", { skip }, async () => {
  await runBusy();
  const first = kept();
  assert.ok(first.length > 0, "its loop is kept");
  assert.equal(files(/-engine-[0-9a-f]+\.kept$/).length, 1);
  await runBusy();
  const again = kept();
  assert.deepEqual(again, first, "nothing of it was translated anew");
});

test("what is damaged is made anew, and what is not for this engine stays unread", { skip }, async () => {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const bytes = readFileSync(path);
    writeFileSync(path, bytes.with(bytes.length >> 1, bytes[bytes.length >> 1]! ^ 1));
  }
  writeFileSync(join(folder, "0000000000000000-i32.kept"), "of another engine");
  await runBusy();
  await runBusy();
  assert.ok(kept().length > 0);
  assert.equal(readFileSync(join(folder, "0000000000000000-i32.kept"), "utf8"), "of another engine");
});

test("nothing is kept where that is not wanted", { skip }, async () => {
  const before = readdirSync(folder);
  process.env["XENO_TRANSLATIONS"] = "0";
  await runBusy();
  assert.deepEqual(readdirSync(folder), before);
});
