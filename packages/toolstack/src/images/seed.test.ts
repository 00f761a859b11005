/** What a machine is told at its first start. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type SeedOptions, seedDisk } from "./seed.ts";

const KEY = "ssh-ed25519 AAAA me@here";
const text = (options: SeedOptions): string => Buffer.from(seedDisk(options).bytes).toString("latin1");
const instanceOf = (options: SeedOptions): string => /"instance-id":"(xeno-[0-9a-f]{16})"/.exec(text(options))![1]!;

test("its name, keys, data and address are on the disk", () => {
  const address = { mac: "00:16:3e:00:00:01", address: "10.0.2.20/24", gateway: "10.0.2.2", nameservers: ["10.0.2.3"] };
  const disk = text({ hostname: "web", sshKeys: [KEY], userData: "#!/bin/sh\necho hello\n", address });
  assert.match(disk, /"local-hostname":"web","public-keys":\["ssh-ed25519 AAAA me@here"\]/);
  assert.match(disk, /#!\/bin\/sh\necho hello\n/);
  assert.match(
    disk,
    /"match":\{"macaddress":"00:16:3e:00:00:01"\},"addresses":\["10.0.2.20\/24"\],"gateway4":"10.0.2.2"/,
  );
});

test("keys let root in where nobody says what else is to be", () => {
  assert.match(
    text({ hostname: "web", sshKeys: [KEY] }),
    /#cloud-config\n\{"disable_root":false,"ssh_authorized_keys"/,
  );
  assert.doesNotMatch(text({ hostname: "web", sshKeys: [KEY], userData: "#cloud-config\n" }), /disable_root/);
});

test("a machine is the same as long as it is told the same", () => {
  assert.equal(instanceOf({ hostname: "web" }), instanceOf({ hostname: "web" }));
  assert.notEqual(instanceOf({ hostname: "web" }), instanceOf({ hostname: "web", sshKeys: [KEY] }));
});

test("an address that is none is refused", () => {
  const told = (address: string, gateway?: string) => () =>
    seedDisk({
      hostname: "web",
      address: { mac: "x", address, nameservers: [], ...(gateway !== undefined && { gateway }) },
    });
  assert.throws(told("10.0.2.20"), /address is "10.0.2.20", expected such as 10.0.2.20\/24/);
  assert.throws(told("10.0.2.20/33"), /expected such as/);
  assert.throws(told("10.0.2.20/24", "there"), /address is "there"/);
});
