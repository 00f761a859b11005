import assert from "node:assert/strict";
import { test } from "node:test";
import { XsRing, XsType } from "@xenoserver/xen/abi/xs-wire.ts";
import { encodeMessage } from "./message.ts";
import { XenstoreRing } from "./ring.ts";

/** A page whose guest does something when we read or write a byte of it, after so many others. */
function watchedPage() {
  const words = new Int32Array(new SharedArrayBuffer(4096));
  let meanwhile = (): void => {};
  let left = 0;
  const act = (): void => {
    if (left-- > 0) return;
    const now = meanwhile;
    meanwhile = () => {};
    now();
  };
  const page = new Proxy(new Uint8Array(words.buffer), {
    get: (target, key) => {
      if (typeof key === "string" && /^\d+$/.test(key)) act();
      return Reflect.get(target, key, target);
    },
    set: (target, key, value) => {
      act();
      return Reflect.set(target, key, value, target);
    },
  });
  const next = (action: () => void, after = 0): void => {
    meanwhile = action;
    left = after;
  };
  return { words, page, next };
}

test("a guest that writes while we read is not left with a request that it does not ring for", () => {
  const { words, page, next } = watchedPage();
  const ring = new XenstoreRing(page);
  const payload = new Uint8Array(10).fill(65);
  const request = encodeMessage({ type: XsType.READ, requestId: 7, transactionId: 0, payload });
  // A guest writes up to the ring's end and then from its beginning, and rings for that only if we have taken the first part.
  const start = XsRing.ringBytes - 20;
  words[XsRing.req_cons / 4] = words[XsRing.req_prod / 4] = start;
  const bytes = new Uint8Array(words.buffer);
  const write = (part: Uint8Array): void => {
    const at = words[XsRing.req_prod / 4];
    part.forEach((byte, n) => {
      bytes[XsRing.req + ((at + n) % XsRing.ringBytes)] = byte;
    });
    words[XsRing.req_prod / 4] = at + part.length;
  };
  write(request.subarray(0, 20));
  // We have the header, and are at what there is of the path.
  next(() => write(request.subarray(20)), 17);
  const received = ring.receive();
  assert.ok(received !== undefined && typeof received !== "string", "the request is whole");
  assert.deepEqual(received.payload, payload);
  assert.equal(words[XsRing.req_cons / 4], start + request.length);
});

test("a guest that reads while we write is not left with room that it does not ring for", () => {
  const { words, page, next } = watchedPage();
  const ring = new XenstoreRing(page);
  const payload = new Uint8Array(4000);
  ring.send({ type: XsType.READ, requestId: 0, transactionId: 0, payload });
  ring.flush();
  const read = (count: number): number => (words[XsRing.rsp_cons / 4] += count);
  const used = (): number => words[XsRing.rsp_prod / 4] - words[XsRing.rsp_cons / 4];
  assert.equal(used(), XsRing.ringBytes);

  // The guest rings for its first read, for the ring was full; not for its second, for it is not.
  read(100);
  next(() => read(50));
  ring.flush();
  assert.equal(used(), XsRing.ringBytes, "it is full again, so the next read rings");
});
