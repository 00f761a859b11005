import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DomainMemory, type Gfn, type Gpa } from "@xenoserver/cpu";
import { acpiTables } from "./acpi.ts";
import { type BuildConfig, buildDomain } from "./build.ts";
import { BuildError } from "./errors.ts";
import { bytesInMemory } from "./image/image-bytes.ts";
import { framesNeeded } from "./memory-map.ts";

const kernel = {
  name: "vmlinuz",
  entry: 0x100020 as Gpa,
  content: bytesInMemory(Buffer.from("head, kernel code")),
  segments: [{ gpa: 0x100000 as Gpa, offset: 6, fileSizeBytes: 11, memSizeBytes: 0x2000 }],
  endGpa: 0x102000 as Gpa,
};

function build(config: Partial<BuildConfig> = {}) {
  const memoryMiB = config.memoryMiB ?? 4;
  const memory = DomainMemory.create(1, framesNeeded(Math.min(16, memoryMiB)));
  const built = buildDomain({ domid: 1, nrVcpus: 2, memoryMiB, kernel, ...config }, memory);
  const read = (at: number, lengthBytes: number): DataView => {
    const bytes = new Uint8Array(lengthBytes);
    assert.ok(memory.read(at as Gpa, bytes), `0x${at.toString(16)} is mapped`);
    return new DataView(bytes.buffer);
  };
  const text = (at: number, lengthBytes: number): string =>
    Buffer.from(read(at, lengthBytes).buffer).toString("latin1");
  return { memory, ...built, read, text };
}

const ramdisk = (bytes: Uint8Array) => ({ name: "ramdisk", content: bytesInMemory(bytes) });

const refuses = (config: Partial<BuildConfig>, code: string, message: RegExp): void => {
  assert.throws(
    () => build(config),
    (error) => error instanceof BuildError && error.code === code && message.test(error.message),
  );
};

describe("the start record", () => {
  test("is where EBX points, with command line, map, ramdisk and RSDP", () => {
    const d = build({ cmdline: "console=hvc0", modules: [ramdisk(Buffer.from("ramdisk!"))] });
    assert.deepEqual(d.start.mode, "protected");
    assert.equal(d.start.entry, 0x100020);
    const info = d.read(d.start.rbx, 56);
    assert.equal(info.getUint32(0, true), 0x336ec578);
    assert.equal(info.getUint32(4, true), 1);
    assert.equal(info.getUint32(12, true), 1);
    assert.equal(d.text(info.getUint32(24, true), 13), "console=hvc0\0");
    assert.equal(info.getUint32(32, true), 0xfc000000);
    const module = d.read(info.getUint32(16, true), 32);
    assert.equal(module.getUint32(8, true), 8);
    assert.equal(d.text(module.getUint32(0, true), 8), "ramdisk!");
    assert.equal(module.getUint32(0, true) % 4096, 0);
    assert.equal(info.getUint32(48, true), 4);
    const map = d.read(info.getUint32(40, true), 24 * 4);
    assert.deepEqual(
      [map.getUint32(24, true), map.getUint32(32, true), map.getUint32(40, true)],
      [0x100000, 0x300000, 1],
    );
  });

  test("has as many modules as there are, each with its own command line", () => {
    const paravirtual = {
      name: "kernel",
      content: bytesInMemory(Buffer.from("a kernel")),
      cmdline: "console=hvc0 root=/dev/xvda1",
    };
    const d = build({ cmdline: "pv-shim", modules: [paravirtual, ramdisk(Buffer.alloc(5000, "r"))] });
    const info = d.read(d.start.rbx, 56);
    assert.equal(info.getUint32(12, true), 2);
    assert.equal(d.text(info.getUint32(24, true), 8), "pv-shim\0");
    const [first, second] = [0, 32].map((at) => d.read(info.getUint32(16, true) + at, 32));
    assert.equal(d.text(first!.getUint32(0, true), 8), "a kernel");
    assert.equal(d.text(first!.getUint32(16, true), 29), "console=hvc0 root=/dev/xvda1\0");
    assert.deepEqual([second!.getUint32(8, true), second!.getUint32(16, true)], [5000, 0]);
    assert.equal(d.text(second!.getUint32(0, true), 2), "rr");
  });

  test("without a ramdisk there is no module", () => {
    const d = build();
    assert.equal(d.read(d.start.rbx, 56).getUint32(12, true), 0);
    assert.equal(d.text(0x100000, 11), "kernel code");
  });
});

describe("memory", () => {
  test("has the hole for video memory and ends where it should", () => {
    const d = build();
    const mapped = (gfn: number): boolean => d.memory.frameAt(gfn as Gfn) !== -1;
    assert.deepEqual([0, 0x9f, 0xa0, 0xbf, 0xc0, 0xff, 0x100, 0x3ff, 0x400].map(mapped), [
      true,
      true,
      false,
      false,
      true,
      true,
      true,
      true,
      false,
    ]);
    assert.deepEqual([0xfeffc, 0xfefff, 0xfeffb].map(mapped), [true, true, false]);
    assert.deepEqual([d.xenstorePort, d.consolePort], [1, 2]);
  });

  test("the smallest number of frames is enough, with room for grant frames", () => {
    const d = build({ memoryMiB: 2 });
    for (let n = 0; n < 63; n++) d.memory.allocateFrame();
  });
});

describe("ACPI", () => {
  const sums = (view: DataView): number => Array.from(new Uint8Array(view.buffer)).reduce((a, b) => a + b, 0) & 0xff;

  test("the RSDP leads to a FADT and a MADT whose checksums are right", () => {
    const d = build();
    assert.equal(d.text(0xfc000000, 8), "RSD PTR ");
    assert.equal(sums(d.read(0xfc000000, 20)), 0);
    assert.equal(sums(d.read(0xfc000000, 36)), 0);
    const table = (at: number) => {
      const view = d.read(at, d.read(at + 4, 4).getUint32(0, true));
      assert.equal(sums(view), 0, d.text(at, 4));
      return view;
    };
    const xsdt = table(d.read(0xfc000018, 4).getUint32(0, true));
    const [fadtAt, madtAt] = [36, 44].map((at) => xsdt.getUint32(at, true));
    assert.equal(d.text(fadtAt, 4), "FACP");
    const fadt = table(fadtAt);
    assert.equal(fadt.byteLength, 268);
    assert.ok(fadt.getUint32(112, true) & (1 << 20), "hardware-reduced");
    assert.equal(d.text(table(fadt.getUint32(140, true)) && fadt.getUint32(140, true), 4), "DSDT");
    assert.equal(d.text(fadt.getUint32(36, true), 4), "FACS");
    const madt = table(madtAt);
    assert.equal(madt.byteLength, 44 + 2 * 8);
    assert.deepEqual([...new Uint8Array(madt.buffer, 44, 16)], [0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 2, 1, 0, 0, 0]);
  });
});

test("a vcpu for later is disabled in the MADT, and has a device with an entry that enables it", () => {
  const bytes = acpiTables(0 as Gpa, 3, 2);
  const find = (text: string): number => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(text);
  const madt = find("APIC");
  assert.deepEqual(
    [...bytes.subarray(madt + 44 + 8, madt + 44 + 24)],
    [0, 8, 1, 2, 1, 0, 0, 0, 0, 8, 2, 4, 0, 0, 0, 0],
  );
  const dsdt = find("DSDT");
  const device = bytes.subarray(dsdt + 36 + 7);
  assert.equal(find("CPU0"), -1);
  assert.equal(find("CPU1"), -1);
  assert.equal(find("CPU2"), dsdt + 36 + 10);
  assert.deepEqual([...device.subarray(0, 3)], [0x5b, 0x82, 1 + 4 + 15 + 7 + 7 + 17]);
  const mat = find("_MAT") + 4;
  assert.deepEqual([...bytes.subarray(mat, mat + 12)], [0x11, 11, 0x0a, 8, 0, 8, 2, 4, 1, 0, 0, 0]);
  // The scope's length counts itself and all in it.
  const scope = bytes.subarray(dsdt + 36);
  assert.equal(scope[0], 0x10);
  assert.equal(new DataView(bytes.buffer, bytes.byteOffset).getUint32(dsdt + 4, true), 36 + 1 + scope[1]!);
});

describe("what cannot be built is said in one sentence", () => {
  test("too little memory", () => {
    const big = { ...kernel, endGpa: (60 * 2 ** 20) as Gpa };
    refuses(
      { memoryMiB: 16, kernel: big, modules: [ramdisk(new Uint8Array(100))] },
      "memory-too-small",
      /^memory 16 MiB: kernel and ramdisk need 61 MiB, expected more$/,
    );
    refuses({ memoryMiB: 16, kernel: big }, "memory-too-small", /kernel needs 61 MiB/);
    refuses({ memoryMiB: 1 }, "memory-too-small", /at least 2 MiB/);
  });

  test("too much memory", () => {
    refuses({ memoryMiB: 15361 }, "memory-too-large", /at most 15360 MiB/);
  });

  test("a ramdisk larger than memory", () => {
    refuses(
      { modules: [ramdisk(new Uint8Array(5 * 2 ** 20))] },
      "ramdisk-too-large",
      /^ramdisk of 5 MiB: expected less than the 4 MiB of memory$/,
    );
  });

  test("a command line that the kernel would cut, or that ends in the middle", () => {
    refuses({ cmdline: "x".repeat(2048) }, "cmdline-too-long", /2048 bytes, expected at most 2047/);
    refuses({ cmdline: "a\0b" }, "cmdline-invalid", /zero byte/);
  });

  test("a kernel that wants to lie in the hole", () => {
    const low = { ...kernel, segments: [{ gpa: 0x9f000 as Gpa, offset: 0, fileSizeBytes: 1, memSizeBytes: 0x2000 }] };
    refuses({ kernel: low }, "kernel-placement", /0x9f000–0xa1000/);
  });

  test("too many vcpus", () => {
    assert.throws(() => build({ nrVcpus: 9 }), /9 vcpus, expected 1 to 8/);
  });
});
