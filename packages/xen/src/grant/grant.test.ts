import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { Frame, Gpa } from "@xenoserver/cpu";
import fc from "fast-check";
import {
  Gntst,
  GnttabOp,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_sub_page,
  GTF_writing,
} from "../abi/grant-table.ts";
import { DOMID_SELF, Hypercall } from "../abi/xen.ts";
import { Field } from "../domain/layout.ts";
import { SCRATCH, TestDomain } from "../testing/test-domain.ts";
import { HostGrants, type MappedGrant } from "./host.ts";
import { hasPins } from "./table.ts";

let guest: TestDomain;
let host: HostGrants;
beforeEach(() => {
  guest = new TestDomain({ nrVcpus: 1 });
  host = new HostGrants(guest.domain);
});

function entryBytes(): DataView {
  const bytes = guest.memory.frameBytes(guest.domain.get(Field.grantFrames) as Frame);
  return new DataView(bytes.buffer, bytes.byteOffset, 4096);
}

/** Writes an entry as the guest does. */
function grant(ref: number, flags: number, gfn: number, domid = 0): void {
  entryBytes().setUint32(ref * 8 + 4, gfn, true);
  entryBytes().setUint16(ref * 8 + 2, domid, true);
  entryBytes().setUint16(ref * 8, flags, true);
}
const flagsOf = (ref: number): number => entryBytes().getUint16(ref * 8, true);
const mapped = (result: MappedGrant | number): MappedGrant => {
  assert.equal(typeof result, "object", `status ${result}`);
  return result as MappedGrant;
};

describe("a backend's use of a grant", () => {
  test("sees the page's bytes, and the guest sees that it is in use", () => {
    grant(8, GTF_permit_access, 0x40);
    guest.memory.write(0x40000 as Gpa, Buffer.from("data"));
    const page = mapped(host.map(8, true));
    assert.equal(Buffer.from(page.bytes.subarray(0, 4)).toString(), "data");
    assert.equal(flagsOf(8), GTF_permit_access | GTF_reading | GTF_writing);
    page.bytes.set(Buffer.from("DATA"));
    page.unmap();
    page.unmap();
    assert.equal(flagsOf(8), GTF_permit_access);
    assert.equal(guest.peek(0x40000), 0x41544144);
    assert.equal(hasPins(guest.domain), false);
  });

  test("the last of several uses clears the flags", () => {
    grant(8, GTF_permit_access, 0x40);
    const uses = [mapped(host.map(8, false)), mapped(host.map(8, true)), mapped(host.map(8, false))];
    uses[1].unmap();
    assert.equal(flagsOf(8), GTF_permit_access | GTF_reading);
    uses[0].unmap();
    assert.equal(flagsOf(8), GTF_permit_access | GTF_reading);
    host.unmapAll();
    assert.equal(flagsOf(8), GTF_permit_access);
  });

  test("what is not granted is refused", () => {
    assert.equal(host.map(8, false), Gntst.general_error, "no entry");
    grant(8, GTF_permit_access, 0x40, 5);
    assert.equal(host.map(8, false), Gntst.general_error, "granted to another domain");
    grant(8, GTF_permit_access | GTF_readonly, 0x40);
    assert.equal(host.map(8, true), Gntst.general_error, "read-only");
    assert.equal(typeof host.map(8, false), "object");
    grant(9, GTF_permit_access | GTF_sub_page, 0x40);
    assert.equal(host.map(9, false), Gntst.general_error, "part of a page");
    grant(10, GTF_permit_access, 0xb0);
    assert.equal(host.map(10, false), Gntst.bad_page, "no page there");
    assert.equal(flagsOf(10), GTF_permit_access);
    grant(11, GTF_permit_access, 0xffffffff);
    assert.equal(host.map(11, false), Gntst.bad_page, "no such gfn");
    assert.equal(host.map(512, false), Gntst.bad_gntref, "beyond the table");
    assert.equal(host.map(-1, false), Gntst.bad_gntref);
  });

  test("many pages are mapped together or not at all, and neighbours are one run of bytes", () => {
    grant(8, GTF_permit_access, 0x40);
    grant(9, GTF_permit_access, 0x41);
    grant(10, GTF_permit_access, 0x45);
    assert.deepEqual(host.mapPages([8, 9, 11, 10], true), { ref: 11, status: Gntst.general_error });
    assert.deepEqual([8, 9, 10].map(flagsOf), [GTF_permit_access, GTF_permit_access, GTF_permit_access]);
    const pages = host.mapPages([8, 9, 10, 8], true);
    assert.ok("frames" in pages);
    const [first, second, third, again] = pages.frames as readonly number[];
    assert.deepEqual([second, again], [first! + 1, first]);
    assert.notEqual(third, second! + 1);
    pages.bytes(0, 4094, 4).set(Buffer.from("edge"));
    assert.equal(guest.peek(0x41000) & 0xffff, 0x6567);
    assert.equal(flagsOf(8), GTF_permit_access | GTF_reading | GTF_writing);
    pages.unmap();
    pages.unmap();
    assert.deepEqual([8, 9, 10].map(flagsOf), [GTF_permit_access, GTF_permit_access, GTF_permit_access]);
    assert.equal(hasPins(guest.domain), false);
  });

  test("copies stay inside the page", () => {
    grant(8, GTF_permit_access, 0x40);
    assert.equal(host.copyTo(8, 4090, new Uint8Array(6).fill(7)), Gntst.okay);
    const back = new Uint8Array(6);
    assert.equal(host.copyFrom(8, 4090, back), Gntst.okay);
    assert.deepEqual([...back], [7, 7, 7, 7, 7, 7]);
    assert.equal(host.copyTo(8, 4091, new Uint8Array(6)), Gntst.bad_copy_arg);
    assert.equal(host.copyFrom(8, -1, back), Gntst.bad_copy_arg);
    assert.equal(hasPins(guest.domain), false);
  });

  test("entries of any content neither throw nor leave a pin", () => {
    fc.assert(
      fc.property(fc.nat(0xffff), fc.nat(0xffffffff), fc.boolean(), (flags, gfn, writable) => {
        grant(8, flags, gfn);
        const result = host.map(8, writable);
        if (typeof result === "object") result.unmap();
        assert.equal(hasPins(guest.domain), false);
      }),
    );
  });

  test("the builder granted console and store to the backends", () => {
    for (const ref of [0, 1]) assert.equal(typeof host.map(ref, true), "object");
  });
});

describe("grant_table_op", () => {
  const op = (command: number, words: readonly number[], count = 1): number => {
    guest.poke(SCRATCH, words);
    return guest.hypercall(Hypercall.grant_table_op, [command, SCRATCH, count]);
  };
  const status = (at: number): number => (guest.peek(SCRATCH + at) << 16) >> 16;

  test("the size is one frame of at most 64", () => {
    assert.equal(op(GnttabOp.query_size, [DOMID_SELF, 0, 0, 0]), 0);
    assert.deepEqual(
      [4, 8].map((at) => guest.peek(SCRATCH + at)),
      [1, 64],
    );
    assert.equal(op(GnttabOp.query_size, [5, 0, 0, 0]), 0);
    assert.equal(status(12), Gntst.permission_denied);
  });

  test("setup_table makes the table longer", () => {
    assert.equal(op(GnttabOp.setup_table, [DOMID_SELF, 4, 0x5555, 0, SCRATCH + 256, 0]), 0);
    assert.equal(status(8), Gntst.okay);
    assert.equal(guest.domain.get(Field.nrGrantFrames), 4);
    assert.equal(guest.peek(SCRATCH + 256), 0xffffffff, "not mapped by the guest yet");
    assert.equal(op(GnttabOp.setup_table, [DOMID_SELF, 65, 0, 0, SCRATCH + 256, 0]), 0);
    assert.equal(status(8), Gntst.general_error);
    guest.vcpus[0].is64 = false;
    assert.equal(op(GnttabOp.setup_table, [DOMID_SELF, 5, 0x5555, SCRATCH + 256]), 0);
    assert.equal(status(8), Gntst.okay);
  });

  test("version 1 is all there is", () => {
    assert.equal(op(GnttabOp.set_version, [1]), 0);
    assert.equal(op(GnttabOp.set_version, [2]), -38);
    assert.equal(guest.peek(SCRATCH), 1);
    assert.equal(op(GnttabOp.get_version, [DOMID_SELF, 0]), 0);
    assert.equal(guest.peek(SCRATCH + 4), 1);
  });

  test("a guest copies between its own pages and through its own grants", () => {
    guest.memory.write(0x40010 as Gpa, Buffer.from("copied"));
    const copy = (from: number, to: number, flags: number): number => {
      op(GnttabOp.copy, [
        from,
        0,
        DOMID_SELF | (0x10 << 16),
        0,
        to,
        0,
        DOMID_SELF | (0x20 << 16),
        0,
        6 | (flags << 16),
        0,
      ]);
      return status(36);
    };
    assert.equal(copy(0x40, 0x41, 0), Gntst.okay);
    assert.equal(guest.peek(0x41020), 0x69706f63);
    grant(20, GTF_permit_access, 0x42, guest.domain.domid);
    assert.equal(copy(0x40, 20, 2), Gntst.okay);
    assert.equal(guest.peek(0x42020), 0x69706f63);
    grant(20, GTF_permit_access | GTF_readonly, 0x42, guest.domain.domid);
    assert.equal(copy(0x40, 20, 2), Gntst.general_error);
    assert.equal(copy(0xb0, 0x41, 0), Gntst.bad_page);
    assert.equal(hasPins(guest.domain), false);
  });

  test("there is nobody else to map from", () => {
    assert.equal(op(GnttabOp.map_grant_ref, [0, 0, 2, 8, 3, 0, 0, 0]), 0);
    assert.equal(guest.peek(SCRATCH + 16) >> 16, Gntst.bad_domain);
    assert.equal(op(GnttabOp.unmap_grant_ref, [0, 0, 0, 0, 1, 0]), 0);
    assert.equal(status(20), Gntst.bad_handle);
  });
});
