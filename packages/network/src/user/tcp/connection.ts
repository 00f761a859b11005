/**
 * One TCP connection of the guest, ended here: on the one side segments, on the other a stream of the host. Whichever
 * side opened it, each byte is acknowledged to the guest when the host's stream has taken it, and held for the guest
 * until the guest has acknowledged it.
 */
import type { Frame, Offloads } from "@xenoserver/devices/net/frames.ts";
import { put16, put32 } from "../../wire/bytes.ts";
import type { FlowHeader } from "../../wire/flow-header.ts";
import { seqAdd, synOptions, TCP_BYTES, TcpFlag, type TcpSegment } from "../../wire/tcp.ts";
import { type Budget, Share } from "../budget.ts";
import type { HostStream, HostStreamEvents } from "./host-stream.ts";
import { Inbound, WINDOW_SCALE } from "./inbound.ts";
import { Outbound } from "./outbound.ts";

/** What a connection needs of its surroundings. */
export interface ConnectionContext {
  readonly header: FlowHeader;
  /** In the segments that go to the guest. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Most payload of a segment that the way to the guest carries. */
  readonly maxSegmentBytes: number;
  readonly inboundBudget: Budget;
  readonly outboundBudget: Budget;
  offloads(): Offloads;
  /** @returns false if the device has no room; the connection's `onRoom` is called when it has */
  send(frame: Frame): boolean;
  /** Has `acknowledge` called once the frames that came together are through. */
  acknowledgeSoon(): void;
  /** The connection is over; nothing of it must be called any more. */
  onOver(): void;
  /** The host's side could not be reached; the guest has not been answered. */
  onUnreachable(code: string): void;
}

type Phase = "dialling" | "syn-received" | "syn-sent" | "open" | "over";

/** Reading from the host stops above this, and goes on below half of it. */
const HOLD_BYTES = 512 * 1024;
const SYN_RETRY_MS = 1000;
const SYN_RETRIES = 5;
const MAX_IP_BYTES = 65535;
const CHECKSUM_AT = 16;
const DEFAULT_MSS = 536;
const MIN_MSS = 88;

export class Connection {
  readonly #context: ConnectionContext;
  readonly #stream: HostStream;
  readonly #share: Share;
  readonly #firstSeq: number;
  #phase: Phase;
  #inbound: Inbound | undefined;
  #outbound: Outbound | undefined;
  #holding = false;
  #mss = DEFAULT_MSS;
  #scales = false;
  #guestSyn: TcpSegment | undefined;
  #synTimer: NodeJS.Timeout | undefined;
  #synRetries = 0;
  #hasResetOld = false;
  /** When something last moved, for whoever looks for idle connections. */
  activeMs = performance.now();

  /**
   * @param open  makes the host's end, given what to do with its events
   * @param syn   the guest's SYN; undefined if the host's side opened the connection, and the guest is to be asked
   */
  constructor(context: ConnectionContext, firstSeq: number, syn: TcpSegment | undefined, open: OpenStream) {
    this.#context = context;
    this.#firstSeq = firstSeq;
    this.#share = new Share(context.outboundBudget);
    this.#guestSyn = syn;
    this.#phase = syn === undefined ? "syn-sent" : "dialling";
    this.#stream = open({
      onOpen: () => this.#onHostOpen(),
      onData: (bytes) => this.#onHostData(bytes),
      onEnd: () => this.#onHostEnd(),
      onDrain: () => this.#onHostDrain(),
      onFailed: (code) => this.#onHostFailed(code),
    });
    if (syn === undefined) this.#sendSyn();
  }

  get phase(): Phase {
    return this.#phase;
  }

  // From the host's side.

  #onHostOpen(): void {
    if (this.#phase !== "dialling") return;
    this.#phase = "syn-received";
    this.#agree(this.#guestSyn!);
    this.#sendSyn();
  }

  #onHostData(bytes: Uint8Array): void {
    this.activeMs = performance.now();
    this.#outbound!.append(bytes);
    this.#hold();
    if (this.#phase === "open") this.#outbound!.pump();
  }

  #onHostEnd(): void {
    this.#outbound!.finish();
    if (this.#phase === "open") this.#outbound!.pump();
  }

  #onHostDrain(): void {
    if (this.#phase !== "open") return;
    if (this.#inbound!.opened) this.#context.acknowledgeSoon();
    this.#endIfDone();
  }

  #onHostFailed(code: string): void {
    if (this.#phase === "dialling" && code !== "ECONNREFUSED") {
      this.#over();
      this.#context.onUnreachable(code);
      return;
    }
    this.#sendReset();
    this.#over();
  }

  /** Lets the host's kernel keep what the guest has no room for. */
  #hold(): void {
    const waiting = this.#outbound!.buffer.length;
    this.#share.set(waiting);
    const tooMuch = waiting > HOLD_BYTES || (waiting > 0 && this.#context.outboundBudget.leftBytes < 0);
    if (!this.#holding && tooMuch) {
      this.#holding = true;
      this.#stream.pause();
    } else if (this.#holding && waiting < HOLD_BYTES / 2) {
      this.#holding = false;
      this.#stream.resume();
    }
  }

  // From the guest's side.

  onSegment(segment: TcpSegment): void {
    this.activeMs = performance.now();
    if ((segment.flags & TcpFlag.rst) !== 0) this.#onReset(segment);
    else if (this.#phase === "syn-sent") this.#onSynAnswer(segment);
    else if (this.#phase === "syn-received") this.#onHandshakeEnd(segment);
    else if (this.#phase === "open") this.#onOpenSegment(segment);
    // While the host's side is being dialled, the guest only repeats its SYN.
  }

  #onReset(segment: TcpSegment): void {
    const expected = this.#inbound?.nextSeq;
    const fits =
      this.#phase === "syn-sent"
        ? segment.ack === seqAdd(this.#firstSeq, 1)
        : expected === undefined || segment.seq === expected;
    if (!fits) return;
    this.#stream.reset();
    this.#over();
  }

  #onSynAnswer(segment: TcpSegment): void {
    if ((segment.flags & TcpFlag.ack) === 0) return;
    if (segment.ack !== seqAdd(this.#firstSeq, 1)) {
      this.#resetOld(segment);
      return;
    }
    if ((segment.flags & TcpFlag.syn) === 0) return;
    this.#agree(segment);
    this.#open(segment);
    this.acknowledge();
  }

  /**
   * The guest speaks of an earlier connection between the same ports: it has not heard of that one's end, or waits for stray
   * segments of it. It would answer every SYN like that; a reset has it forget.
   */
  #resetOld({ ack }: TcpSegment): void {
    this.#send(this.#segment(ack, TcpFlag.rst, 0, TCP_BYTES), 0);
    // Once only: a guest that answers every SYN so is asked again at the timer's pace.
    if (!this.#hasResetOld) this.#sendSynSegment();
    this.#hasResetOld = true;
  }

  #onHandshakeEnd(segment: TcpSegment): void {
    if ((segment.flags & TcpFlag.syn) !== 0) {
      this.#sendSynSegment();
      return;
    }
    if ((segment.flags & TcpFlag.ack) === 0 || segment.ack !== seqAdd(this.#firstSeq, 1)) return;
    this.#open(segment);
    this.#onOpenSegment(segment);
  }

  /** Settles what both SYNs offered. */
  #agree(syn: TcpSegment): void {
    const { maxSegmentBytes, inboundBudget } = this.#context;
    this.#mss = Math.max(MIN_MSS, Math.min(syn.mss ?? DEFAULT_MSS, maxSegmentBytes));
    this.#scales = syn.windowScale !== undefined;
    this.#inbound = new Inbound(this.#stream, seqAdd(syn.seq, 1), this.#scales, inboundBudget);
    this.#outbound = new Outbound({
      firstSeq: seqAdd(this.#firstSeq, 1),
      mss: this.#mss,
      windowScale: syn.windowScale ?? 0,
      frameBytes: () => this.#frameBytes(),
      emit: (seq, offset, length, push, fin) => this.#emit(seq, offset, length, push, fin),
      onGiveUp: () => this.abort(),
    });
  }

  #open(segment: TcpSegment): void {
    clearTimeout(this.#synTimer);
    this.#phase = "open";
    const isSyn = (segment.flags & TcpFlag.syn) !== 0;
    // A SYN's own window is never shifted; the next segment's is.
    this.#outbound!.onAck(
      segment.ack,
      isSyn && this.#scales ? segment.window >>> segment.windowScale! : segment.window,
      false,
    );
    // A server that speaks first may have said more than is held before the guest has answered.
    if (!this.#holding) this.#stream.resume();
  }

  #onOpenSegment(segment: TcpSegment): void {
    if ((segment.flags & TcpFlag.ack) === 0 || (segment.flags & TcpFlag.syn) !== 0) {
      this.#context.acknowledgeSoon();
      return;
    }
    const inbound = this.#inbound!;
    const outbound = this.#outbound!;
    const tells = inbound.onSegment(segment);
    const known = outbound.onAck(segment.ack, segment.window, segment.payload.length > 0);
    if (this.#phase !== "open") return;
    this.#hold();
    if (tells || !known) this.#context.acknowledgeSoon();
    this.#endIfDone();
  }

  /** Both sides have sent all, and nothing of it waits here. */
  #endIfDone(): void {
    if (!this.#inbound!.finished || !this.#outbound!.finAcked || this.#stream.queuedBytes > 0) return;
    this.acknowledge();
    this.#over();
  }

  /** The device has room for frames again. */
  onRoom(): void {
    if (this.#phase === "open") this.#outbound!.pump();
  }

  // Segments to the guest.

  #frameBytes(): number {
    const { header, offloads } = { header: this.#context.header, offloads: this.#context.offloads() };
    const cuts = header.version === 4 ? offloads.segmentsIpv4 : offloads.segmentsIpv6;
    if (!cuts) return this.#mss;
    const most = MAX_IP_BYTES - (header.transportAt - 14) - TCP_BYTES;
    return most - (most % this.#mss);
  }

  #emit(seq: number, offset: number, lengthBytes: number, push: boolean, fin: boolean): boolean {
    const flags = TcpFlag.ack | (push ? TcpFlag.psh : 0) | (fin ? TcpFlag.fin : 0);
    const bytes = this.#segment(seq, flags, this.#inbound!.announce(), TCP_BYTES + lengthBytes);
    this.#outbound!.buffer.copyTo(bytes, this.#context.header.transportAt + TCP_BYTES, offset, lengthBytes);
    return this.#send(bytes, lengthBytes > this.#mss ? this.#mss : 0);
  }

  /** Tells the guest what has arrived, and how much more may come. */
  acknowledge(): void {
    if (this.#phase !== "open") return;
    this.#send(this.#segment(this.#outbound!.nextSeq, TcpFlag.ack, this.#inbound!.announce(), TCP_BYTES), 0);
  }

  #sendSyn(): void {
    this.#sendSynSegment();
    this.#synTimer = setTimeout(() => {
      if (++this.#synRetries > SYN_RETRIES) this.abort();
      else this.#sendSyn();
    }, SYN_RETRY_MS << this.#synRetries);
  }

  #sendSynSegment(): void {
    const answers = this.#phase === "syn-received";
    const options = synOptions(this.#context.maxSegmentBytes, answers && !this.#scales ? undefined : WINDOW_SCALE);
    const flags = TcpFlag.syn | (answers ? TcpFlag.ack : 0);
    // A SYN's window is not shifted.
    const bytes = this.#segment(this.#firstSeq, flags, 0xffff, TCP_BYTES + options.length);
    const at = this.#context.header.transportAt;
    bytes[at + 12] = ((TCP_BYTES + options.length) / 4) << 4;
    bytes.set(options, at + TCP_BYTES);
    this.#inbound?.announce();
    this.#send(bytes, 0);
  }

  #sendReset(): void {
    const seq = this.#outbound?.nextSeq ?? this.#firstSeq;
    const guestSyn = this.#guestSyn;
    const ack = this.#inbound?.nextSeq ?? (guestSyn === undefined ? 0 : seqAdd(guestSyn.seq, 1));
    const bytes = this.#segment(this.#phase === "dialling" ? 0 : seq, TcpFlag.rst | TcpFlag.ack, 0, TCP_BYTES, ack);
    this.#send(bytes, 0);
  }

  /** A frame with all of its TCP header but the checksum; options and payload are left to the caller. */
  #segment(
    seq: number,
    flags: number,
    window: number,
    tcpBytes: number,
    ack = this.#inbound?.nextSeq ?? 0,
  ): Uint8Array {
    const { header, sourcePort, destinationPort } = this.#context;
    const bytes = header.frame(tcpBytes);
    const at = header.transportAt;
    put16(bytes, at, sourcePort);
    put16(bytes, at + 2, destinationPort);
    put32(bytes, at + 4, seq);
    put32(bytes, at + 8, ack);
    bytes[at + 12] = (TCP_BYTES / 4) << 4;
    bytes[at + 13] = flags;
    put16(bytes, at + 14, window);
    put32(bytes, at + 16, 0);
    return bytes;
  }

  #send(bytes: Uint8Array, segmentBytes: number): boolean {
    const { header } = this.#context;
    return this.#context.send(header.finish(bytes, CHECKSUM_AT, this.#context.offloads(), segmentBytes));
  }

  // The end.

  /** Resets both sides. */
  abort(): void {
    if (this.#phase === "over") return;
    this.#sendReset();
    this.#stream.reset();
    this.#over();
  }

  #over(): void {
    this.#phase = "over";
    clearTimeout(this.#synTimer);
    this.#outbound?.stop();
    this.#inbound?.stop();
    this.#share.set(0);
    this.#context.onOver();
  }
}

/** Makes the host's end of a connection. Events come later, never from within the call. */
export type OpenStream = (events: HostStreamEvents) => HostStream;
