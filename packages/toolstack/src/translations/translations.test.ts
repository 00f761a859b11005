import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, describe, test } from "node:test";
import { Described, describeRegions } from "@xenoserver/cpu/kept/described.ts";
import { KnownRegions } from "@xenoserver/cpu/kept/known-regions.ts";
import {
  decodeHead,
  encodeRecord,
  HEAD_BYTES,
  identityOf,
  isBodyWhole,
  isHeadWhole,
  type KeptTranslation,
  USED_AT,
} from "./record.ts";
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
  const { found } = file;
  const index = file.takeIndex();
  if (index === undefined) return [];
  const known = new KnownRegions(index);
  const listed: [number, number][] = [];
  let at = 0;
  for (let number = 0; number < found.count; number++, at += known.words[at]!) {
    assert.equal(known.moduleOf(at), number);
    assert.equal(known.addressOf(number), found.placeOf(number));
    listed.push([known.words[at + Described.lists]!, found.codeBytesOf(number)]);
  }
  assert.ok(!(known.words[at]! > 0));
  return listed;
};
const numbers = (path: string): number[] => contents(path).map(([number]) => number);
const record = (file: TranslationFile, number: number): number => {
  const { regions, bytes } = translation(number);
  const found = file.found.withIdentity(identityOf(regions, bytes));
  assert.ok(found >= 0);
  return found;
};
/** Has all records of a file look as if they had been used so many seconds earlier than now, the first one longest ago. */
function age(path: string, seconds: readonly number[]): void {
  const { found } = open(path);
  const fd = openSync(path, "r+");
  for (const [number, ago] of seconds.entries()) {
    const usedAt = Math.floor(Date.now() / 1000) - ago;
    writeSync(fd, Uint32Array.of(usedAt), 0, 4, found.placeOf(number) + USED_AT);
  }
  closeSync(fd);
}

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
    const file = open(path);
    const { regions, bytes } = translation(2);
    assert.deepEqual(file.read(record(file, 2)), { regions, bytes });
    assert.deepEqual(
      [1, 3].map((number) => file.found.at(file.found.placeOf(record(file, number)))),
      [record(file, 1), record(file, 3)],
    );
    assert.deepEqual([file.found.at(1), file.found.at(1e9), file.found.withIdentity(1)], [-1, -1, -1]);
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

  test("is read without what is damaged, and written anew then", () => {
    const path = fresh();
    open(path).add([translation(1), translation(2), translation(3)], nothing);
    const whole = readFileSync(path);
    const second = whole.length / 3;
    for (const [damage, left] of [
      [() => truncateSync(path, whole.length - 1), [1, 2]],
      [() => appendFileSync(path, Buffer.alloc(200, 7)), [1, 2, 3]],
      [() => writeFileSync(path, whole.with(second, 99)), [1]],
      // In its regions: where it ends is known, so that what follows is found.
      [() => writeFileSync(path, whole.with(second + 40, 99)), [1, 3]],
    ] as const) {
      writeFileSync(path, whole);
      damage();
      assert.deepEqual(numbers(path), left);
      open(path).add([translation(4)], nothing);
      assert.deepEqual(numbers(path), [...left, 4]);
      assert.equal(statSync(path).size, (left.length + 1) * second, "nothing else is in it");
    }
    assert.deepEqual(
      readdirSync(join(folder, "made")).filter((name) => name.endsWith(".part")),
      [],
    );
  });

  describe("is written anew when it is too large", () => {
    const many = 60;
    const path = fresh();
    const fill = (sizeBytes: number): TranslationFile => {
      const file = open(path);
      for (let n = 0; n < many; n++) file.add([translation(n, sizeBytes)], nothing);
      return file;
    };
    const fitting = Math.floor(MAX_FILE_BYTES / many) - 1000;
    beforeEach(() => rmSync(path, { force: true }));

    test("what is used stays, then what was used last", () => {
      fill(fitting);
      assert.equal(open(path).found.count, many);
      // Every third one was used by another process, and the others never since they were written.
      age(
        path,
        Array.from({ length: many }, (_, n) => 10_000 - n),
      );
      const user = open(path);
      for (let n = 0; n < many; n += 3) user.markUsed(record(user, n));
      const file = open(path);
      const other = open(path);
      const { regions, bytes } = translation(1);
      file.add([translation(200, 100_000)], (identity) => identity === identityOf(regions, bytes));
      const left = numbers(path);
      assert.ok(left.length > many * 0.6 && left.length < many * 0.8, `${left.length}`);
      const gone = Array.from({ length: many }, (_, n) => n).filter((n) => !left.includes(n));
      assert.deepEqual(
        gone,
        Array.from({ length: many }, (_, n) => n)
          .filter((n) => n % 3 !== 0 && n !== 1)
          .slice(0, gone.length),
      );
      assert.equal(left.at(-1), 200);
      // Whoever had it open goes on with what it had, and adds to the new one.
      file.add([translation(201)], nothing);
      other.add([translation(202), translation(203)], nothing);
      file.add([translation(204)], nothing);
      assert.deepEqual(numbers(path), [...left, 201, 202, 203, 204]);
      assert.deepEqual(file.read(record(file, 2))?.bytes, translation(2).bytes);
    });

    test("with what a process added since it opened it, when that writes it anew", () => {
      fill(fitting + 2000);
      const left = numbers(path);
      assert.deepEqual(
        left,
        Array.from({ length: left.length }, (_, k) => many - left.length + k),
      );
      assert.ok(left.length > many / 2, `${left.length}`);
    });
  });

  test("says of a record when it was used, if that was not just now", () => {
    const path = fresh();
    open(path).add([translation(1), translation(2), translation(3)], nothing);
    age(path, [10_000, 10, 10_000]);
    const before = readFileSync(path);
    const file = open(path);
    for (const number of [1, 2]) file.markUsed(record(file, number));
    const { found } = open(path);
    const changed = [1, 2, 3].map((n) => found.usedAt(n - 1) !== file.found.usedAt(n - 1));
    assert.deepEqual(changed, [true, false, false]);
    assert.ok(Math.abs(found.usedAt(0) - Date.now() / 1000) < 60);
    assert.deepEqual(numbers(path), [1, 2, 3]);
    assert.equal(readFileSync(path).length, before.length);
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

test("a byte of a record that changed is noticed, but for when it was used", () => {
  const record = encodeRecord(translation(5));
  const head = decodeHead(record)!;
  const body = HEAD_BYTES + head.regionsBytes;
  const end = body + head.moduleBytes + head.codeBytes;
  const isWhole = (bytes: Uint8Array): boolean => {
    const found = decodeHead(bytes);
    return found !== undefined && isHeadWhole(found, bytes) && isBodyWhole(found, bytes.subarray(body, end));
  };
  assert.equal(head.identity, identityOf(translation(5).regions, translation(5).bytes));
  assert.ok(isWhole(record));
  for (let k = 0; k < end; k++)
    assert.equal(isWhole(record.with(k, record[k]! ^ 1)), k >= USED_AT && k < USED_AT + 4, `byte ${k}`);
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
