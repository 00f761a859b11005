import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { describeRegions } from "@xenoserver/cpu/kept/described.ts";
import { i32, ModuleBuilder } from "@xenoserver/wasm";
import { machineCode } from "@xenoserver/xen/host/machine-code/machine-code.ts";
import { KeptModules } from "./kept-modules.ts";
import { TranslationFile } from "./translation-file.ts";

const host = machineCode();
const skip = host === undefined && "machine code cannot be had here";
const folder = mkdtempSync(join(tmpdir(), "xeno-kept-modules-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Larger than what is read at once. */
const regionsOfOne = describeRegions([
  {
    entries: [{ distance: 0, frame: 1, offset: 0, hash: 1 }],
    reach: "rest",
    pieces: [0, 1, 2].map((distance) => ({ distance, frame: 1, start: 0, bytes: new Uint8Array(4096).fill(distance) })),
    pages: [0, 1, 2].map((distance) => ({ distance, frame: 1 })),
  },
]);

/** A file with one module, which V8 has optimised. */
async function fileWithOne(): Promise<TranslationFile> {
  const m = new ModuleBuilder("i32");
  const { fn } = m.func(["i32"], ["i32"], "add");
  fn.return(fn.param<"i32">(0).add(i32(7)));
  fn.unreachable();
  const bytes = m.finish();
  const module = new WebAssembly.Module(bytes);
  const add = new WebAssembly.Instance(module).exports.add as unknown as (n: number) => number;
  let code: Uint8Array | undefined;
  for (; code === undefined; code = host!.of(module)) {
    for (let k = 0; k < 1e6; k++) add(k);
    await wait(5);
  }
  const path = join(folder, "made", "one.kept");
  TranslationFile.open(path)!.add([{ regions: regionsOfOne, bytes, code }], () => false);
  return TranslationFile.open(path)!;
}
test("of two domains of a thread the second has the module that the first one read", { skip }, async () => {
  const file = await fileWithOne();
  const handle = { index: file.takeIndex()!, fd: file.fd };
  const read: number[] = [];
  const [first, second] = [0, 1].map((domain) => new KeptModules(handle, () => void read.push(domain)));
  const module = first!.read(0);
  assert.ok(module instanceof WebAssembly.Module);
  assert.equal(second!.read(0), module);
  assert.deepEqual(read, [0]);
  assert.deepEqual(second!.describe(0), regionsOfOne);
});
