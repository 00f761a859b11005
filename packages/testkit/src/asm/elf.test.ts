import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Assembler } from "./assembler.ts";
import { writeElf } from "./elf.ts";
import { eax, edi, edx, ptr, rsi } from "./operands.ts";

const image = new Uint8Array([0x90, 0xf4]);

describe("writeElf", () => {
  it("places image, entry and zero bytes", () => {
    const view = new DataView(writeElf({ image, loadAddress: 0x10_0000, entry: 0x10_0001, bssBytes: 0x1000 }).buffer);
    assert.equal(view.getUint32(0), 0x7f454c46);
    assert.equal(view.getBigUint64(24, true), 0x10_0001n);
    assert.equal(view.getUint16(56, true), 1);
    const header = 64;
    assert.equal(view.getUint32(header, true), 1);
    const offset = Number(view.getBigUint64(header + 8, true));
    assert.equal(view.getUint16(offset), 0x90f4);
    assert.equal(view.getBigUint64(header + 24, true), 0x10_0000n);
    assert.equal(view.getBigUint64(header + 32, true), 2n);
    assert.equal(view.getBigUint64(header + 40, true), 0x1002n);
  });

  it("names a PVH entry in a note of owner Xen, type 18", () => {
    const elf = writeElf({ image, loadAddress: 0x10_0000, entry: 0x10_0000, pvhEntry: 0x10_0001 });
    const view = new DataView(elf.buffer);
    assert.equal(view.getUint16(56, true), 2);
    const header = 64 + 56;
    assert.equal(view.getUint32(header, true), 4);
    const note = Number(view.getBigUint64(header + 8, true));
    assert.deepEqual(
      [0, 4, 8, 16].map((at) => view.getUint32(note + at, true)),
      [4, 4, 18, 0x10_0001],
    );
    assert.equal(Buffer.from(elf.subarray(note + 12, note + 16)).toString(), "Xen\0");
  });

  it("refuses a load address off the page", () => {
    assert.throws(() => writeElf({ image, loadAddress: 0x10_0010, entry: 0 }), /0x100010/);
  });

  const isHost = process.platform === "linux" && process.arch === "x64";
  it("makes programs that Linux runs", { skip: isHost ? false : "needs an x86-64 Linux host" }, () => {
    const a = new Assembler({ mode: 64, origin: 0x40_0000 });
    a.mov(eax, 1).mov(edi, 1).lea(rsi, ptr("text")).mov(edx, 3).syscall().mov(eax, 60).mov(edi, 7).syscall();
    a.label("text").db("hi\n");
    const folder = mkdtempSync(join(tmpdir(), "elf-"));
    try {
      const path = join(folder, "program");
      writeFileSync(path, writeElf({ image: a.bytes(), loadAddress: 0x40_0000, entry: 0x40_0000 }));
      chmodSync(path, 0o755);
      const child = spawnSync(path);
      assert.deepEqual([child.stdout.toString(), child.status], ["hi\n", 7]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("satisfies readelf", (t) => {
    const folder = mkdtempSync(join(tmpdir(), "elf-"));
    try {
      const path = join(folder, "kernel");
      writeFileSync(path, writeElf({ image, loadAddress: 0x10_0000, entry: 0x10_0000, pvhEntry: 0x10_0000 }));
      const text = execFileSync("readelf", ["-hln", path], { stdio: ["ignore", "pipe", "pipe"] }).toString();
      assert.match(text, /Xen\s+0x00000004/);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      t.skip("binutils is not installed");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
