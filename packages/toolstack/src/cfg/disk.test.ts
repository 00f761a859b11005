import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type DiskSpec, describeDisk, parseDisk } from "./disk.ts";
import { ConfigError, domainConfig, parseCfg } from "./index.ts";
import { Complaint } from "./readers.ts";
import { vdevNumber } from "./vdev.ts";

describe("a disk's text", () => {
  const expected: DiskSpec = {
    target: "/dev/vg/guest-volume",
    format: "raw",
    vdev: "hda",
    devid: 768,
    readOnly: false,
    discard: true,
  };
  for (const text of [
    "/dev/vg/guest-volume,,hda",
    "/dev/vg/guest-volume,raw,hda,rw",
    "format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume",
    "raw:/dev/vg/guest-volume,hda,w",
    "phy:/dev/vg/guest-volume,hda,w",
    "tap:aio:/dev/vg/guest-volume,hda,w",
    "vdev=hda,/dev/vg/guest-volume",
    ",,hda,target=/dev/vg/guest-volume",
    "/dev/vg/guest-volume,,hda,,backendtype=phy,direct-io-safe",
  ]) {
    test(text, () => assert.deepEqual(parseDisk(text), expected));
  }

  test("a target by name reaches to the end, commas and all", () => {
    assert.equal(parseDisk("vdev=xvda,target=/a,b=c, d ").target, "/a,b=c, d ");
  });

  test("formats, access and limits", () => {
    assert.deepEqual(parseDisk("/x.qcow2,qcow2,xvdb,r,no-discard,bps=10M,iops=1.5k,burst=2"), {
      target: "/x.qcow2",
      format: "qcow2",
      vdev: "xvdb",
      devid: 51728,
      readOnly: true,
      discard: false,
      bytesPerSecond: 10e6,
      requestsPerSecond: 1500,
      burstSeconds: 2,
    });
  });

  for (const [text, message] of [
    ["", /has no target/],
    ["/x", /has no vdev/],
    ["/x,raw,sdq1", /has vdev "sdq1", expected a name such as xvda/],
    ["/x,qed,xvda", /has format "qed", expected one of raw, qcow2/],
    ["/x,,xvda,wr", /has access "wr", expected ro or rw/],
    ["/x,,xvda,rw,more", /has "more" behind its access/],
    ["/x,,xvda,colour=red", /has colour=, expected one of/],
    ["/x,raw,xvda,format=qcow2", /has two values for format/],
    ["/x,,hdc,cdrom", /is a cdrom/],
    ["/x,,xvda,backend=other", /has backend=other, which is not supported yet/],
    ["/x,,xvda,script=iscsi", /has a script/],
    ["/x,,xvda,bps=fast", /has bps=fast, expected a number above 0/],
  ] as const) {
    test(`${JSON.stringify(text)} is refused`, () => assert.throws(() => parseDisk(text), message));
  }

  test("any text is read or refused; what was read reads the same when described", () => {
    const piece = fc.constantFrom(
      "/x",
      "raw",
      "qcow2",
      "xvda",
      "d3p4",
      "rw",
      "ro",
      "iops=5",
      "vdev=",
      "no-discard",
      ",",
      ":",
      " ",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        let disk: DiskSpec;
        try {
          disk = parseDisk(pieces.join(","));
        } catch (error) {
          assert.ok(error instanceof Complaint, String(error));
          return;
        }
        assert.deepEqual(parseDisk(describeDisk(disk)), disk);
      }),
    );
  });
});

test("disks' numbers are those of Xen's vbd interface", () => {
  const numbers: readonly [string, number | undefined][] = [
    ["xvda", 51712],
    ["d0", 51712],
    ["d0p0", 51712],
    ["xvdb2", 51730],
    ["d1p2", 51730],
    ["xvdp15", 51967],
    ["xvdq", 2 ** 28 + 16 * 256],
    ["xvda16", 2 ** 28 + 16],
    ["d536p37", 2 ** 28 + 536 * 256 + 37],
    ["xvdtq37", 2 ** 28 + 536 * 256 + 37],
    ["sdb3", 0x813],
    ["hdb", 832],
    ["hdc2", 5634],
    ["0xca00", 51712],
    ["0145000", 51712],
    ["hde", undefined],
    ["xvda256", undefined],
    ["vda", undefined],
    ["0", undefined],
  ];
  for (const [name, number] of numbers) assert.equal(vdevNumber(name), number, name);
});

describe("disk = […]", () => {
  const disks = (value: string) => domainConfig(parseCfg(`kernel="/k"\ndisk=${value}`, "t.cfg"), "t.cfg").config.disks;
  test("a list, or one string", () => {
    assert.deepEqual(
      disks("['/a,,xvda', '/b,,xvdb,r']")?.map(({ target }) => target),
      ["/a", "/b"],
    );
    assert.deepEqual(disks("'/a,,xvda'")?.length, 1);
    assert.equal(disks("[]"), undefined);
  });

  test("mistakes name the item", () => {
    const refused = (value: string, message: RegExp) =>
      assert.throws(
        () => disks(value),
        (error) => error instanceof ConfigError && message.test(error.message),
      );
    refused("['/a,,xvda', '/b']", /^t\.cfg:2: disk item 2 has no vdev/);
    refused("['/a,,xvda', '/b,,51712']", /^t\.cfg:2: disk has 51712 twice, for \/a and \/b/);
    refused("[['/a']]", /disk is a list, expected a string/);
  });
});
