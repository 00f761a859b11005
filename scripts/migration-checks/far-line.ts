/**
 * A line between two network namespaces that is slow, loses frames, and can be cut: two taps, whose frames this process hands over. The kernels of many
 * machines have no netem; taps they have. Started by `far-link.ts`, which it tells the names of its taps, and ends with.
 */
import { writeSync } from "node:fs";
import { hostCalls } from "@xenoserver/network/tap/calls.ts";
import { openTap } from "@xenoserver/network/tap/interface.ts";
import { whenReadable } from "@xenoserver/network/tap/readiness.ts";

/** One way. TCP's segments go one by one, see `far-link.ts`, so a loss is one segment's. */
const DELAY_MS = 2;
const JITTER_MS = 0.5;
const LOST_SHARE = 0.0005;
/** As routers do, it drops what does not fit. */
const MOST_WAITING = 20_000;
const BUFFER_BYTES = 1 << 17;
/** After so many frames, those that are due have their turn. */
const MAX_BATCH = 64;

const calls = hostCalls()!;
let isCut = false;

/** Frames from one tap to the other, in order. */
class Way {
  readonly #from: number;
  readonly #to: number;
  readonly #buffer = new SharedArrayBuffer(BUFFER_BYTES);
  readonly #waiting: { readonly dueMs: number; readonly bytes: Uint8Array }[] = [];
  #lastDueMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #again: NodeJS.Immediate | undefined;

  constructor(from: number, to: number) {
    this.#from = from;
    this.#to = to;
    whenReadable(calls, from, () => this.#read());
  }

  #read(): void {
    for (let batch = 0; batch < MAX_BATCH; batch++) {
      const count = calls.read(this.#from, this.#buffer);
      if (count <= 0) return;
      if (isCut || this.#waiting.length === MOST_WAITING || Math.random() < LOST_SHARE) continue;
      const bytes = new Uint8Array(count);
      bytes.set(new Uint8Array(this.#buffer, 0, count));
      this.#lastDueMs = Math.max(this.#lastDueMs, performance.now() + DELAY_MS + (2 * Math.random() - 1) * JITTER_MS);
      this.#waiting.push({ dueMs: this.#lastDueMs, bytes });
      this.#wait();
    }
    this.#again ??= setImmediate(() => {
      this.#again = undefined;
      this.#read();
    });
  }

  #wait(): void {
    const [first] = this.#waiting;
    if (first === undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#write();
        this.#wait();
      },
      Math.max(1, first.dueMs - performance.now()),
    );
  }

  #write(): void {
    const now = performance.now();
    const due = this.#waiting.findIndex(({ dueMs }) => dueMs > now);
    for (const { bytes } of this.#waiting.splice(0, due < 0 ? this.#waiting.length : due)) {
      if (isCut) continue;
      try {
        writeSync(this.#to, bytes);
      } catch {
        // Its interface is down as yet: the frame is lost, as on any line.
      }
    }
  }
}

const taps = [openTap({}), openTap({})];
for (const [from, to] of [taps, taps.toReversed()]) new Way(from!.fd, to!.fd);
process.on("message", (cut: boolean) => void (isCut = cut));
process.on("disconnect", () => process.exit());
process.send!(taps.map(({ name }) => name));
