import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { codeWindow, viewKey, WHOLE_PAGE } from "./code-window.ts";

describe("the part of a page that CS allows", () => {
  it("is all of it away from the limit", () => {
    assert.equal(codeWindow(0, 0xffffffff, 0xfffff000), WHOLE_PAGE);
    assert.equal(codeWindow(0x1000, 0xffff, 0x1000), WHOLE_PAGE);
  });
  it("ends behind the last byte, which may be the next page's", () => {
    assert.deepEqual(codeWindow(0x1000, 0x20ff, 0x3000), { start: 0, end: 0x100 });
    assert.deepEqual(codeWindow(0x1000, 0x2001, 0x2000), { start: 0, end: 0x1002 });
  });
  it("begins where the segment begins", () => {
    assert.deepEqual(codeWindow(0x1230, 0xf, 0x1000), { start: 0x230, end: 0x240 });
  });
  it("goes on at linear address 0 when base and limit pass 4 GiB", () => {
    assert.deepEqual(codeWindow(0xfffff000, 0x10ff, 0), { start: 0, end: 0x100 });
  });
  it("is nothing of pages before and behind the segment", () => {
    for (const page of [0, 0x1000, 0x4000]) assert.deepEqual(codeWindow(0x2000, 0x1fff, page), { start: 0, end: 0 });
  });
  it("has a key of its own in each mode", () => {
    const windows = [WHOLE_PAGE, { start: 0, end: 0 }, { start: 0, end: 4096 }, { start: 1, end: 0 }];
    const keys = windows.flatMap((window) => [0, 1, 31].map((codeMode) => viewKey({ codeMode, window })));
    assert.equal(new Set(keys).size, keys.length);
    assert.equal(viewKey({ codeMode: 14, window: WHOLE_PAGE }), 14);
  });
});
