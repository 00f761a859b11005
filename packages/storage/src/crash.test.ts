/** Processes are killed while they write: whatever they had flushed is there. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import { MemoryStore } from "@xenoserver/devices/block/testing/memory-store.ts";
import { createQcow2, ImageStore, openImage, RandomAccessFile } from "./index.ts";
import { BLOCKS, blocksOf, roundOf, SPARE_BLOCKS } from "./testing/crash-blocks.ts";
import { noQemu, qemuImg } from "./testing/qemu.ts";
import { readAll } from "./testing/store-suite.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-crash-"));
after(() => rmSync(folder, { recursive: true }));

const SIZE = (BLOCKS + SPARE_BLOCKS) * 4096;
const KILLS = 6;
const WRITER = fileURLToPath(new URL("./testing/crash-writer.ts", import.meta.url));

/** Runs the writer and kills it after so many flushes. @returns the last rounds that were begun, and flushed */
async function killAfter(kind: string, path: string, first: number, flushes: number) {
  const child = spawn(process.execPath, [
    ...process.execArgv.filter((arg) => !arg.startsWith("--test")),
    "--disable-warning=ExperimentalWarning",
    WRITER,
    kind,
    path,
    String(first),
  ]);
  let [output, errors] = ["", ""];
  child.stderr.on("data", (bytes: Buffer) => {
    errors += bytes.toString();
  });
  child.stdout.on("data", (bytes: Buffer) => {
    output += bytes.toString();
    if (output.split("flushed").length > flushes) child.kill("SIGKILL");
  });
  await new Promise((resolve) => child.on("close", resolve));
  assert.equal(errors, "");
  const last = (word: string): number =>
    Number(
      output
        .match(new RegExp(`${word} (\\d+)\n`, "g"))
        ?.at(-1)
        ?.split(" ")[1] ?? first - 1,
    );
  return { issued: last("issued"), flushed: last("flushed") };
}

/** Each block is of the last round that was flushed and wrote it, or of a later one. */
async function verify(store: BlockStore, flushed: readonly number[], issued: number): Promise<void> {
  const due = new Array<number>(BLOCKS).fill(0);
  for (const seq of flushed) for (const block of blocksOf(seq)) due[block] = seq;
  const bytes = await readAll(store);
  for (let block = 0; block < BLOCKS; block++) {
    const round = roundOf(bytes.subarray(block * 4096, block * 4096 + 4096), block);
    assert.ok(round !== undefined, `block ${block} is in pieces`);
    assert.ok(
      round >= due[block]! && round <= issued,
      `block ${block} is of round ${round}, expected ${due[block]} to ${issued}`,
    );
  }
}

async function killAndVerify(
  kind: string,
  path: string,
  open: () => Promise<BlockStore>,
  check?: () => Promise<void>,
): Promise<void> {
  const flushed: number[] = [];
  let issued = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const first = issued + 1;
    const rounds = await killAfter(kind, path, first, 1 + ((kill * 7) % 11));
    for (let seq = first; seq <= rounds.flushed; seq++) flushed.push(seq);
    issued = rounds.issued;
    await check?.();
    const store = await open();
    await verify(store, flushed, issued);
    await store.close();
  }
}

test("a raw file", async () => {
  const path = join(folder, "disk.raw");
  await (await RandomAccessFile.create(path, SIZE)).close();
  await killAndVerify("raw", path, () => openImage(path, { format: "raw", readOnly: true }));
});

test("a qcow2 image, which is consistent each time", async () => {
  const path = join(folder, "disk.qcow2");
  await createQcow2(path, { sizeBytes: SIZE, clusterBits: 14 });
  const check = async (): Promise<void> => {
    if (noQemu !== undefined) return;
    await qemuImg("check", "-q", path).catch((error: { code: number }) => assert.equal(error.code, 3, "3 means leaks"));
  };
  await killAndVerify("qcow2", path, () => openImage(path, { format: "qcow2", readOnly: true }), check);
});

test("a disk on an image, also in the middle of a commit", async () => {
  const path = join(folder, "store");
  const images = await ImageStore.open(path);
  await images.import("base", new MemoryStore(SIZE));
  await images.clone("base", "disk");
  await killAndVerify(
    "overlay",
    path,
    () => images.openOverlay("disk"),
    async () => void (await images.collect(0)),
  );
});
