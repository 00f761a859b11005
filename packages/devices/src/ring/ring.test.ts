import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { HostGrants, MappedGrant } from "@xenoserver/xen";
import { Gntst } from "@xenoserver/xen/abi/grant-table.ts";
import fc from "fast-check";
import { BackRing, RingError, ringEntries } from "./back-ring.ts";
import { GrantError, mapGrants } from "./grants.ts";
import { FrontRing } from "./testing/front-ring.ts";

const ENTRY = 112;
let front: FrontRing;
let back: BackRing;
function setUp(pages: number, start = 0): void {
  front = new FrontRing(pages, ENTRY, start);
  back = new BackRing(front.pages, ENTRY, { reqCons: start, rspProd: start });
}
beforeEach(() => setUp(1));

const entry = (seed: number): Uint8Array => Uint8Array.from({ length: ENTRY }, (_, n) => (seed * 31 + n) & 0xff);
function take(): Uint8Array {
  const bytes = new Uint8Array(ENTRY);
  back.take(bytes);
  return bytes;
}

test("as many entries as Xen's headers make of it", () => {
  assert.deepEqual(
    [1, 2, 4, 8, 16].map((pages) => ringEntries(pages, ENTRY)),
    [32, 64, 128, 256, 512],
  );
  assert.equal(ringEntries(1, 12), 256);
});

for (const pages of [1, 2, 16]) {
  test(`requests and responses pass through a ring of ${pages} pages, also where its indices wrap`, () => {
    setUp(pages, 0xffffff00);
    for (let round = 0; round < 1000; round++) {
      front.put(entry(round));
      front.push();
      assert.equal(back.waiting, 1);
      assert.deepEqual(take(), entry(round));
      back.put(entry(round + 1));
      back.push();
      assert.deepEqual(front.take(), entry(round + 1));
    }
  });
}

describe("notifications", () => {
  test("the guest is notified if it asked for this response", () => {
    front.put(entry(1));
    front.put(entry(2));
    front.push();
    for (let n = 0; n < 2; n++) take();
    back.put(entry(1));
    assert.equal(back.push(), true);
    back.put(entry(2));
    assert.equal(back.push(), false, "rsp_event still asks for the first");
    assert.equal(back.push(), false, "nothing new");
  });

  test("the guest's next request notifies after a final check, and a request behind our back is found", () => {
    assert.equal(back.finalCheck(), false);
    front.put(entry(1));
    assert.equal(front.push(), true);
    take();
    front.put(entry(2));
    assert.equal(front.push(), false);
    assert.equal(back.finalCheck(), true);
  });
});

describe("a guest that moves its index at will", () => {
  test("is found out before a request is taken", () => {
    front.header[0] = 33;
    assert.throws(() => back.waiting, { name: "RingError", message: "req_prod is 33, expected 0 to 32" });
    front.header[0] = -1;
    assert.throws(() => back.waiting, RingError);
  });

  test("cannot have requests that are not answered replaced", () => {
    for (let n = 0; n < 32; n++) front.put(entry(n));
    front.push();
    for (let n = 0; n < 32; n++) take();
    assert.equal(back.inFlight, 32);
    front.header[0] = 33;
    assert.throws(() => back.waiting, RingError);
    back.put(entry(0));
    assert.equal(back.waiting, 1);
  });

  test("any words in the header: never more waiting than the ring holds", () => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 4, maxLength: 4 }), fc.integer({ min: 0 }), (words, start) => {
        setUp(2, start);
        front.header.set(words.map((word) => word | 0));
        try {
          assert.ok(back.waiting <= 64);
          back.finalCheck();
        } catch (error) {
          assert.ok(error instanceof RingError);
        }
        back.push();
      }),
    );
  });
});

test("grants are mapped all together or not at all", () => {
  let open = 0;
  const grants = {
    map: (ref: number): MappedGrant | Gntst => {
      if (ref > 10) return Gntst.bad_gntref;
      open++;
      return { bytes: new Uint8Array(4096), markWritten: () => {}, unmap: () => open-- };
    },
  } as unknown as HostGrants;
  assert.equal(mapGrants(grants, [1, 2, 2], true).length, 3);
  assert.equal(open, 3);
  assert.throws(
    () => mapGrants(grants, [1, 2, 11, 3], false),
    (error) => error instanceof GrantError && error.message === "grant 11 cannot be mapped for reading: bad_gntref",
  );
  assert.equal(open, 3);
});
