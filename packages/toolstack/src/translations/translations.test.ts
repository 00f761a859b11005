import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { describeRegions } from "@xenoserver/cpu/kept/described.ts";
import { decodeHead, encodeRecord, identityOf, isBodyWhole, isHeadWhole, type KeptTranslation } from "./record.ts";
import { MAX_FILE_BYTES, TranslationFile } from "./translation-file.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-translations-"));
after(() => rmSync(folder, { recursive: true }));
let files = 0;
const fresh = (): string => join(folder, `made/${++files}.kept`);

const translation = (number: number, codeBytes = 100): KeptTranslation => ({
  regions: describeRegions([
    {
      entries: [{ distance: 0, frame: 1, offset: number, hash: number }],
      reach: "rest",
      pieces: [{ distance: 0, frame: 1, start: number, bytes: Uint8Array.of(number, 2) }],
      pages: [{ distance: 0, frame: 1 }],
    },
  ]),
  bytes: new Uint8Array(30).fill(number),
  code: new Uint8Array(codeBytes).fill(number + 1),
});
const nothing = () => false;
const open = (path: string): TranslationFile => {
  const file = TranslationFile.open(path);
  assert.ok(file);
  return file;
};
/** Numbers of the translations in a file, and how much code each has. */
const contents = (path: string): [number, number][] => {
  const file = open(path);
  const known = file.takeKnown();
  assert.deepEqual(
    known.map(({ at }) => at),
    file.found.map(({ at }) => at),
  );
  return file.found.map(({ head }, k) => [known[k]!.regions[6]!, head.codeBytes]);
};

describe("a file of translations", () => {
  test("has what was added to it, by whoever has it open, in that order", () => {
    const path = fresh();
    const [one, other] = [open(path), open(path)];
    one.add([translation(1), translation(2)], nothing);
    other.add([translation(3)], nothing);
    one.add([translation(4)], nothing);
    assert.deepEqual(
      contents(path),
      [1, 2, 3, 4].map((n) => [n, 100]),
    );
    const found = open(path).found[1]!;
    const { regions, bytes } = translation(2);
    assert.deepEqual(open(path).read(found), { regions, bytes });
  });

  test("has of a module what was added last", () => {
    const path = fresh();
    open(path).add([translation(1), translation(2)], nothing);
    open(path).add([translation(1, 300)], nothing);
    assert.deepEqual(contents(path), [
      [2, 100],
      [1, 300],
    ]);
  });

  test("is read up to where it is damaged, and written anew then", () => {
    const path = fresh();
    open(path).add([translation(1), translation(2)], nothing);
    const whole = readFileSync(path);
    for (const damage of [
      () => truncateSync(path, whole.length - 1),
      () => appendFileSync(path, Buffer.alloc(200, 7)),
      () => writeFileSync(path, whole.with(whole.length / 2 + 40, 99)),
    ]) {
      writeFileSync(path, whole);
      damage();
      const before = contents(path).map(([n]) => n);
      assert.deepEqual(before, before.length === 1 ? [1] : [1, 2]);
      open(path).add([translation(3)], nothing);
      assert.deepEqual(
        contents(path).map(([n]) => n),
        [...before, 3],
      );
    }
    assert.deepEqual(
      readdirSync(join(folder, "made")).filter((name) => name.endsWith(".part")),
      [],
    );
  });

  test("is written anew when it is too large: what is used stays, then what is newest", () => {
    const path = fresh();
    const many = 60;
    const size = Math.floor(MAX_FILE_BYTES / many) - 1000;
    for (let n = 0; n < many; n++) open(path).add([translation(n, size)], nothing);
    const file = open(path);
    assert.equal(file.found.length, many);
    const other = open(path);
    const third = file.found[3]!;
    file.add([translation(200, 100_000)], (identity) => identity === third.head.identity);
    const left = contents(path).map(([n]) => n);
    assert.equal(left[0], 3);
    assert.deepEqual(left.slice(-2), [many - 1, 200]);
    assert.ok(left.length > many / 3 && left.length < many * 0.6, `${left.length}`);
    // Whoever had it open goes on with what it had, and adds to the new one.
    file.add([translation(201)], nothing);
    other.add([translation(202), translation(203)], nothing);
    file.add([translation(204)], nothing);
    assert.deepEqual(
      contents(path).map(([n]) => n),
      [...left, 201, 202, 203, 204],
    );
    assert.deepEqual(file.read(file.found[0]!)?.bytes, translation(0).bytes);
  });

  test("has what a process added since it opened it, when that writes it anew", () => {
    const path = fresh();
    const many = 60;
    const size = Math.floor(MAX_FILE_BYTES / many) + 1000;
    const file = open(path);
    for (let n = 0; n < many; n++) file.add([translation(n, size)], nothing);
    const left = contents(path).map(([n]) => n);
    assert.deepEqual(
      left,
      Array.from({ length: left.length }, (_, k) => many - left.length + k),
    );
    assert.ok(left.length > many / 3, `${left.length}`);
  });

  test("is not used where others may write it, nor through a link", () => {
    const path = fresh();
    open(path).add([translation(1)], nothing);
    chmodSync(path, 0o620);
    assert.equal(TranslationFile.open(path), undefined);
    chmodSync(path, 0o600);
    const link = fresh();
    symlinkSync(path, link);
    assert.equal(TranslationFile.open(link), undefined);
    assert.equal(TranslationFile.open(join(path, "below")), undefined);
  });
});

test("a byte of a record that changed is noticed", () => {
  const record = encodeRecord(translation(5));
  const head = decodeHead(record)!;
  const body = 32 + head.regionsBytes;
  const end = body + head.moduleBytes + head.codeBytes;
  assert.equal(head.identity, identityOf(translation(5).regions, translation(5).bytes));
  assert.ok(isHeadWhole(head, record) && isBodyWhole(head, record.subarray(body, end)));
  for (let k = 0; k < end; k++) {
    const damaged = record.with(k, record[k]! ^ 1);
    const found = decodeHead(damaged);
    const isWhole = found && isHeadWhole(found, damaged) && isBodyWhole(found, damaged.subarray(body, end));
    assert.ok(!isWhole, `byte ${k}`);
  }
});

describe("a folder of translations", () => {
  const others = join(folder, "others");
  const made = (name: string, mib: number, second: number): void => {
    const path = join(others, name);
    writeFileSync(path, "");
    truncateSync(path, mib << 20);
    utimesSync(path, second, second);
  };

  test("loses files that were opened longest ago when a new one is made, and nothing else", () => {
    open(join(others, "first.kept"));
    for (const [n, mib] of [90, 90, 90, 1].entries()) made(`${n}.kept`, mib, 1000 + n);
    made("note.txt", 300, 1);
    open(join(others, "0.kept"));
    open(join(others, "1.kept"));
    assert.equal(readdirSync(others).length, 6, "one that is there is no reason");
    open(join(others, "second.kept"));
    assert.deepEqual(readdirSync(others).sort(), [
      "0.kept",
      "1.kept",
      "3.kept",
      "first.kept",
      "note.txt",
      "second.kept",
    ]);
  });
});
