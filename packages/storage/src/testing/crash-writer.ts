/**
 * A process that writes blocks which can be told apart, flushes, and says so, until it is killed. Run by the crash test.
 *
 *     stdout: "issued SEQ" before the writes of a round, "flushed SEQ" after its flush, one a line
 */
import { writeSync } from "node:fs";
import type { BlockStore } from "@xenoserver/devices/block/store.ts";
import { ImageStore, type OverlayStore, openImage } from "../index.ts";
import { BLOCKS, blockOf, blocksOf } from "./crash-blocks.ts";

const [kind, path] = process.argv.slice(2) as [string, string];
const images = kind === "overlay" ? await ImageStore.open(path) : undefined;
const store: BlockStore =
  images !== undefined
    ? await images.openOverlay("disk")
    : await openImage(path, { format: kind as "raw", readOnly: false });
const first = Number(process.argv[4]);

for (let seq = first; ; seq++) {
  writeSync(1, `issued ${seq}\n`);
  await Promise.all(blocksOf(seq).map((block) => store.write(block * 4096, [blockOf(block, seq)])));
  if (seq % 5 === 0) await store.discard(BLOCKS * 4096, 16 * 4096);
  await store.flush();
  writeSync(1, `flushed ${seq}\n`);
  if (images !== undefined && seq % 4 === 0) await images.commit(store as OverlayStore);
}
