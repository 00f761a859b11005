/** A second console's handshake, with a guest that is not always honest. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import type { Gfn, Frame as MemoryFrame } from "@xenoserver/cpu";
import { Xencons } from "@xenoserver/xen/abi/console.ts";
import { EvtchnOp } from "@xenoserver/xen/abi/event-channel.ts";
import { GnttabOp, GTF_permit_access } from "@xenoserver/xen/abi/grant-table.ts";
import { DOMID_SELF, Hypercall } from "@xenoserver/xen/abi/xen.ts";
import { Field } from "@xenoserver/xen/domain/layout.ts";
import { SCRATCH } from "@xenoserver/xen/testing/test-domain.ts";
import { XenbusBackend } from "../xenbus/backend.ts";
import { devicePaths, XenbusState } from "../xenbus/protocol.ts";
import { FakeGuest, settle } from "../xenbus/testing/fake-guest.ts";
import { ConsoleDriver } from "./driver.ts";

let guest: FakeGuest;
let driver: ConsoleDriver;
let device: XenbusBackend;
let output: string;
let paths: ReturnType<typeof devicePaths>;

beforeEach(() => {
  guest = new FakeGuest();
  output = "";
  driver = new ConsoleDriver(guest.host, {
    name: "org.example",
    onOutput: (bytes) => {
      output += Buffer.from(bytes).toString("latin1");
    },
  });
  device = new XenbusBackend(guest.host, driver, 1);
  paths = devicePaths("console", guest.host.domid, 1);
  device.start();
});
afterEach(() => device.stop());

const RING_GFN = 0x300;
const RING_REF = 9;
const UNKNOWN_REF = 5000;

/** What hvc_xen does; the words of its page. */
async function connect(ref = RING_REF): Promise<Uint32Array> {
  const { domain } = guest;
  domain.poke(SCRATCH, [DOMID_SELF, 2, 0, 0, SCRATCH + 256, 0]);
  domain.hypercall(Hypercall.grant_table_op, [GnttabOp.setup_table, SCRATCH, 1]);
  const table = domain.memory.frameBytes(domain.domain.get(Field.grantFrames) as MemoryFrame);
  new DataView(table.buffer, table.byteOffset + RING_REF * 8, 8).setUint32(4, RING_GFN, true);
  new DataView(table.buffer, table.byteOffset + RING_REF * 8, 8).setUint32(0, GTF_permit_access, true);
  domain.poke(SCRATCH, [DOMID_SELF, 0]);
  domain.hypercall(Hypercall.event_channel_op, [EvtchnOp.alloc_unbound, SCRATCH]);
  guest.write(`${paths.frontend}/ring-ref`, String(ref));
  guest.write(`${paths.frontend}/port`, String(domain.peek(SCRATCH + 4)));
  guest.show(paths.frontend, XenbusState.Initialised);
  for (let turn = 0; turn < 4; turn++) await settle();
  const page = domain.memory.frameBytes(domain.memory.frameAt(RING_GFN as Gfn) as MemoryFrame);
  return new Uint32Array(page.buffer, page.byteOffset, 1024);
}

const bytesOf = (words: Uint32Array): Uint8Array => new Uint8Array(words.buffer, words.byteOffset, 4096);

test("bytes go both ways once the guest has connected, and those from before too", async () => {
  driver.send(Buffer.from("early "));
  const words = await connect();
  driver.send(Buffer.from("late"));
  const page = bytesOf(words);
  assert.equal(device.state, XenbusState.Connected);
  assert.equal(guest.read(`${paths.backend}/name`), "org.example");
  assert.equal(Buffer.from(page.subarray(0, words[Xencons.in_prod / 4])).toString(), "early late");
  page.set(Buffer.from("from the guest"), Xencons.out);
  words[Xencons.out_prod / 4] = 14;
  device.resume();
  assert.equal(output, "from the guest");
});

test("what a guest has not read waits, and goes as it reads", async () => {
  const words = await connect();
  for (let n = 0; n < 200; n++) driver.send(Buffer.alloc(1000, n));
  assert.equal(words[Xencons.in_prod / 4], 1024);
  let read = 0;
  while (words[Xencons.in_cons / 4] !== words[Xencons.in_prod / 4]) {
    const at = words[Xencons.in_cons / 4]!;
    assert.equal(bytesOf(words)[at & 1023], Math.floor(at / 1000));
    words[Xencons.in_cons / 4] = at + 1;
    read++;
    device.resume();
  }
  assert.equal(read, 200_000);
});

test("a ring that was not granted closes the console, and the guest may try again", async () => {
  await connect(UNKNOWN_REF);
  assert.match(guest.read(`${paths.backend}/error`), /console 1: ring-ref: grant 5000 cannot be mapped/);
  guest.show(paths.frontend, XenbusState.Closed);
  await settle();
  guest.show(paths.frontend, XenbusState.Initialising);
  await settle();
  await connect();
  assert.equal(device.state, XenbusState.Connected);
});
