import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Xencons } from "@xenoserver/xen/abi/console.ts";
import fc from "fast-check";
import { ConsoleBackend } from "./backend.ts";

/** What a kernel's driver does with the page. */
class GuestSide {
  readonly page = new Uint8Array(new SharedArrayBuffer(4096));
  readonly words = new Uint32Array(this.page.buffer);

  write(text: string): number {
    let sent = 0;
    while (sent < text.length) {
      const prod = this.words[Xencons.out_prod / 4];
      if ((prod - this.words[Xencons.out_cons / 4]) >>> 0 >= Xencons.outBytes) break;
      this.page[Xencons.out + (prod & 2047)] = text.charCodeAt(sent++);
      this.words[Xencons.out_prod / 4] = prod + 1;
    }
    return sent;
  }

  read(): string {
    let text = "";
    while (this.words[Xencons.in_cons / 4] !== this.words[Xencons.in_prod / 4]) {
      text += String.fromCharCode(this.page[Xencons.in + (this.words[Xencons.in_cons / 4]++ & 1023)]);
    }
    return text;
  }
}

let guest: GuestSide;
let output: string;
let notified: number;
let logs: string[];
let backend: ConsoleBackend;

beforeEach(() => {
  guest = new GuestSide();
  output = "";
  notified = 0;
  logs = [];
  backend = new ConsoleBackend({
    name: "dom3 console",
    page: guest.page,
    notify: () => notified++,
    markWritten: () => {},
    onOutput: (bytes) => {
      output += Buffer.from(bytes).toString("latin1");
    },
    log: (message) => logs.push(message),
  });
});

test("what the guest writes comes out, and the guest is told of the room", () => {
  guest.write("hello\n");
  backend.onEvent();
  assert.equal(output, "hello\n");
  assert.equal(notified, 1);
  backend.onEvent();
  assert.equal(notified, 1, "nothing moved, nobody told");
});

test("the ring wraps, also where the indices do", () => {
  guest.words.fill(0xffffff00, Xencons.in_cons / 4, Xencons.in_cons / 4 + 4);
  for (let n = 0; n < 20; n++) {
    guest.write(`${n} ${"x".repeat(300)}`);
    backend.onEvent();
  }
  assert.match(output, /^0 x+1 x+2 x+.*19 x+$/);
});

test("output that the consumer holds back stays in the ring, and the guest waits", () => {
  backend.holdOutput();
  assert.equal(guest.write("y".repeat(3000)), 2048);
  backend.onEvent();
  assert.equal(output, "");
  backend.releaseOutput();
  assert.equal(output.length, 2048);
});

test("input longer than the ring goes in as the guest makes room", () => {
  const text = Array.from({ length: 3000 }, (_, n) => String.fromCharCode(97 + (n % 26))).join("");
  assert.ok(backend.write(Buffer.from(text)));
  let got = "";
  for (let round = 0; round < 4; round++) {
    got += guest.read();
    backend.onEvent();
  }
  assert.equal(got, text);
});

test("input that nobody reads is refused in the end", () => {
  let accepted = 0;
  while (backend.write(new Uint8Array(1000)) && accepted < 1000) accepted++;
  assert.ok(accepted >= 65 && accepted <= 67, `${accepted}`);
});

test("indices without sense are left alone and named once", () => {
  guest.words[Xencons.out_prod / 4] = 5000;
  backend.onEvent();
  backend.onEvent();
  assert.equal(output, "");
  assert.equal(logs.length, 1);
  guest.words[Xencons.out_prod / 4] = 0;
  guest.write("again");
  backend.onEvent();
  assert.equal(output, "again");
});

test("any indices and any input neither throw nor write outside the input ring", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(0xffffffff), { minLength: 4, maxLength: 4 }), fc.uint8Array(), (indices, bytes) => {
      guest.page.fill(0xee);
      guest.words.set(indices, Xencons.in_cons / 4);
      backend.onEvent();
      backend.write(bytes);
      assert.ok(guest.page.subarray(Xencons.out, Xencons.in_cons).every((byte) => byte === 0xee));
      assert.ok(guest.page.subarray(3088).every((byte) => byte === 0xee));
    }),
  );
});

test("input that waits survives a move", () => {
  backend.write(Buffer.from("z".repeat(1500)));
  const state = backend.exportState();
  const moved = new ConsoleBackend({
    name: "moved",
    page: guest.page,
    notify: () => {},
    markWritten: () => {},
    onOutput: () => {},
  });
  moved.importState(state);
  assert.equal(guest.read().length, 1024);
  moved.onEvent();
  assert.equal(guest.read().length, 476);
});
