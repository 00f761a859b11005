import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LzmaError } from "./lzma2.ts";
import { COMPRESSED_ELF } from "./test-fixtures.ts";
import { makeElf } from "./test-images.ts";
import { decodeXz } from "./xz.ts";

const packed = (name: keyof typeof COMPRESSED_ELF): Buffer => Buffer.from(COMPRESSED_ELF[name], "base64");
const plain = Buffer.from(makeElf());

for (const name of ["x86", "crc64", "blocks", "none"] as const) {
  test(`unpacks what xz packed: ${name}`, () => assert.deepEqual(Buffer.from(decodeXz(packed(name))), plain));
}

test("zero padding behind the stream is skipped", () => {
  assert.deepEqual(Buffer.from(decodeXz(Buffer.concat([packed("crc64"), Buffer.alloc(8)]))), plain);
});

test("stops when the reader has enough", () => {
  const part = decodeXz(packed("blocks"), { enough: (output) => output.length >= 1000 });
  assert.deepEqual(Buffer.from(part), plain.subarray(0, 1000));
});

test("an unknown filter is named", () => {
  assert.throws(() => decodeXz(packed("arm")), /xz filters are 0x7, 0x21, expected LZMA2/);
});

test("more than the limit is refused before memory is taken", () => {
  assert.throws(() => decodeXz(packed("crc64"), { maxBytes: 100 }), /unpacks to 2264 bytes, expected ≤ 100/);
});

test("truncated data is refused", () => {
  const whole = packed("crc64");
  for (let length = 0; length < whole.length; length += 7) {
    assert.throws(() => decodeXz(whole.subarray(0, length)), LzmaError);
  }
});

test("a flipped bit is found or harmless, and never hangs", () => {
  const whole = packed("x86");
  const flip = fc.record({ at: fc.nat(whole.length - 1), bit: fc.nat(7) });
  fc.assert(
    fc.property(flip, ({ at, bit }) => {
      const damaged = Buffer.from(whole);
      damaged[at]! ^= 1 << bit;
      try {
        assert.deepEqual(Buffer.from(decodeXz(damaged)), plain);
      } catch (error) {
        assert.ok(error instanceof LzmaError, String(error));
      }
    }),
    { numRuns: 300 },
  );
});
