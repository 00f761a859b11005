import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { i32, ModuleBuilder } from "@xenoserver/wasm";
import { machineCode } from "./machine-code.ts";

const host = machineCode();
const skip =
  host === undefined && "machine code can be had on Linux with an x86-64 processor and the project's Node only";
const folder = mkdtempSync(join(tmpdir(), "xeno-machine-code-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A module with a function that adds a number to what it is given. */
function adder(number: number): Uint8Array<ArrayBuffer> {
  const m = new ModuleBuilder("i32");
  const { fn } = m.func(["i32"], ["i32"], "add");
  fn.return(fn.param<"i32">(0).add(i32(number)));
  fn.unreachable();
  return m.finish();
}
const addOf = (module: WebAssembly.Module) =>
  new WebAssembly.Instance(module).exports.add as unknown as (n: number) => number;
const shared = (bytes: Uint8Array): Uint8Array<SharedArrayBuffer> => {
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
};

/** A module whose function is so hot that V8 has optimised it. */
async function optimised(number: number): Promise<{ module: WebAssembly.Module; code: Uint8Array<ArrayBuffer> }> {
  const module = new WebAssembly.Module(adder(number));
  const add = addOf(module);
  for (;;) {
    for (let k = 0; k < 1e6; k++) add(k);
    const code = host!.of(module);
    if (code) return { module, code };
    await wait(5);
  }
}

test("what is not optimised yet has no code", { skip }, () => {
  assert.equal(host!.of(new WebAssembly.Module(adder(1))), undefined);
});

test("a module comes back in another process as what it was", { skip }, async () => {
  const { code } = await optimised(4711);
  const paths = [join(folder, "code"), join(folder, "bytes")];
  writeFileSync(paths[0]!, code);
  writeFileSync(paths[1]!, adder(4711));
  const other = execFileSync(
    process.execPath,
    [...process.execArgv.filter((a) => !a.startsWith("--test")), import.meta.filename, ...paths],
    {
      encoding: "utf8",
      env: { ...process.env, NODE_TEST_CONTEXT: undefined },
    },
  );
  assert.equal(other, "4753");
});
const [codePath, bytesPath] = process.argv.slice(2);
if (codePath !== undefined && bytesPath !== undefined) {
  const module = host!.moduleOf(shared(readFileSync(codePath)), shared(readFileSync(bytesPath)))!;
  process.stdout.write(String(addOf(module)(42)));
  process.exit();
}

test("many modules go and come without one being mistaken for another", { skip }, async () => {
  const all = await Promise.all([10, 20, 30].map(async (n) => ({ n, ...(await optimised(n)) })));
  for (let k = 0; k < 200; k++) {
    const { n, module, code } = all[k % all.length]!;
    assert.deepEqual(host!.of(module), code);
    assert.equal(addOf(host!.moduleOf(shared(code), shared(adder(n)))!)(1), n + 1);
  }
  assert.ok(!("0" in globalThis));
});

test("code of another V8 is not taken", { skip }, async () => {
  const { code } = await optimised(77);
  const other = shared(code);
  other[4]! ^= 0xff;
  assert.equal(host!.moduleOf(other, shared(adder(78))), undefined);
  await wait(50);
  assert.ok(!("0" in globalThis), "what V8 compiles instead is not brought");
  assert.equal(addOf(host!.moduleOf(shared(code), shared(adder(77)))!)(1), 78);
});
