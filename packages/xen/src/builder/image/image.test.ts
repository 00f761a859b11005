import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { type KernelImage, KernelImageError, type KernelImageErrorCode, loadKernelImage } from "./index.ts";
import { COMPRESSED_ELF } from "./test-fixtures.ts";
import { callLikeBytes, makeBzImage, makeElf, u32, u64 } from "./test-images.ts";

const elf = makeElf();
/** Linux's build appends the unpacked size to all but gzip. */
const withSize = (bytes: Uint8Array): Uint8Array => Buffer.concat([bytes, u32(elf.length)]);
const fixture = (name: keyof typeof COMPRESSED_ELF): Uint8Array => Buffer.from(COMPRESSED_ELF[name], "base64");

function refused(bytes: Uint8Array, code: KernelImageErrorCode, message: RegExp): void {
  assert.throws(
    () => loadKernelImage(bytes, "k"),
    (error) => {
      assert.ok(error instanceof KernelImageError, String(error));
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    },
  );
}

function firstSegment({ content, segments: [first] }: KernelImage): Buffer {
  const bytes = Buffer.alloc(first!.fileSizeBytes);
  content.copyTo(bytes, first!.offset);
  return bytes;
}

describe("ELF", () => {
  test("segments and entry of a 64-bit image", () => {
    const image = loadKernelImage(elf, "vmlinux");
    assert.deepEqual(
      {
        ...image,
        content: image.content.length,
        segments: image.segments.map((s) => [s.gpa, s.fileSizeBytes, s.memSizeBytes]),
      },
      {
        name: "vmlinux",
        format: "elf",
        compression: "none",
        bits: 64,
        entry: 0x100010,
        content: elf.length,
        segments: [[0x100000, 2048, 8192]],
        startGpa: 0x100000,
        endGpa: 0x102000,
      },
    );
    assert.deepEqual(firstSegment(image), Buffer.from(callLikeBytes(2048)));
  });

  test("32-bit images, and notes with eight bytes", () => {
    const image = loadKernelImage(makeElf({ bits: 32, entry: u64(0x100020) }), "grub");
    assert.equal(image.bits, 32);
    assert.equal(image.entry, 0x100020);
  });

  test("segments come in ascending order", () => {
    const bytes = new Uint8Array(16);
    const image = loadKernelImage(
      makeElf({
        segments: [
          { at: 0x300000, bytes },
          { at: 0x100000, bytes, memSize: 32 },
        ],
      }),
      "k",
    );
    assert.deepEqual(
      image.segments.map((s) => s.gpa),
      [0x100000, 0x300000],
    );
  });

  test("what cannot be booted is refused with a reason", () => {
    const bytes = new Uint8Array(16);
    refused(makeElf({ entry: null }), "no-pvh-entry", /64-bit x86-64 image has no PVH entry note/);
    refused(makeElf({ bits: 32, entry: null }), "no-pvh-entry", /32-bit i386 image has no PVH entry note/);
    refused(makeElf({ entry: new Uint8Array(2) }), "damaged", /PVH entry note is 2 bytes, expected 4 or 8/);
    refused(
      makeElf({ entry: u32(0x999999) }),
      "damaged",
      /PVH entry is 0x999999, expected an address within a segment/,
    );
    refused(makeElf({ machine: 183 }), "unsupported-machine", /machine 183, expected x86-64/);
    refused(makeElf({ segments: [] }), "not-a-kernel", /nothing to load/);
    refused(makeElf({ segments: [{ at: 0xfffffff8, bytes }] }), "damaged", /segment ends at 0x100000008/);
    const overlapping = [
      { at: 0x100000, bytes, memSize: 64 },
      { at: 0x100020, bytes },
    ];
    refused(makeElf({ segments: overlapping }), "damaged", /segments overlap at 0x100020/);
  });
});

describe("bzImage", () => {
  const payloads: Record<string, Uint8Array> = {
    none: elf,
    gzip: gzipSync(elf),
    zstd: withSize(zstdCompressSync(elf)),
    xz: withSize(fixture("x86")),
    lz4: withSize(fixture("lz4")),
  };
  for (const [compression, payload] of Object.entries(payloads)) {
    test(`${compression} payload`, () => {
      const image = loadKernelImage(makeBzImage(payload), "vmlinuz");
      assert.equal(image.format, "bzImage");
      assert.equal(image.compression, compression);
      assert.deepEqual(firstSegment(image), Buffer.from(callLikeBytes(2048)));
    });
  }

  test("a compressed ELF file without the wrapper is taken too", () => {
    assert.equal(loadKernelImage(gzipSync(elf), "vmlinux.gz").compression, "gzip");
  });

  test("what cannot be read is refused with a reason", () => {
    refused(makeBzImage(elf, 0x207), "not-a-kernel", /boot protocol 2\.07, expected 2\.08 or later/);
    refused(
      makeBzImage(Buffer.from("BZh91AY&SY....")),
      "unsupported-compression",
      /payload is bzip2, expected ELF, gzip/,
    );
    refused(makeBzImage(Buffer.alloc(64, 7)), "unsupported-compression", /payload is unknown \(starts with 0707/);
    refused(makeBzImage(gzipSync("no ELF file")), "not-a-kernel", /gzip payload holds no ELF file/);
    refused(makeBzImage(gzipSync(elf).subarray(0, 100)), "damaged", /gzip payload of 100 bytes does not unpack/);
    refused(makeBzImage(fixture("x86").subarray(0, 300)), "damaged", /xz payload/);
  });
});

describe("anything else", () => {
  test("is no kernel", () => {
    refused(new Uint8Array(), "not-a-kernel", /kernel k: file is empty/);
    refused(
      Buffer.from("#!/bin/sh\n"),
      "not-a-kernel",
      /starts with 23212f62696e2f73, expected an ELF file or a bzImage/,
    );
  });

  test("a truncated file is refused wherever it ends", () => {
    for (const whole of [elf, makeBzImage(withSize(fixture("lz4")))]) {
      const used = whole === elf ? whole.length : whole.length - 32;
      for (let length = 0; length < used; length += 97) {
        assert.throws(() => loadKernelImage(whole.subarray(0, length), "k"), KernelImageError);
      }
    }
    refused(
      elf.subarray(0, 1000),
      "truncated",
      /segment ends at byte 2264, but the ELF file is 1000 bytes; it may be truncated/,
    );
    refused(makeBzImage(elf).subarray(0, 3000), "truncated", /file is 3000 bytes, but its payload ends at byte 4840/);
  });

  test("damage is refused or harmless", () => {
    const header = fc.record({ at: fc.nat(300), value: fc.nat(255) });
    fc.assert(
      fc.property(
        fc.array(header, { minLength: 1, maxLength: 4 }),
        fc.constantFrom(32 as const, 64 as const),
        (damage, bits) => {
          const bytes = Uint8Array.from(makeElf({ bits }));
          for (const { at, value } of damage) bytes[at] = value;
          try {
            loadKernelImage(bytes, "k");
          } catch (error) {
            assert.ok(error instanceof KernelImageError, String(error));
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});
