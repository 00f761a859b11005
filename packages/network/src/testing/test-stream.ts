/** The host's end of a connection, for tests: it keeps what is written and does what it is told. */
import type { Dial, HostStream, HostStreamEvents } from "../user/tcp/host-stream.ts";

export class TestStream implements HostStream {
  queuedBytes = 0;
  readonly written: Uint8Array[] = [];
  ended = false;
  wasReset = false;
  isPaused = false;
  /** Set to true, what is written stays queued until `drain`. */
  isSlow = false;
  readonly host: string;
  readonly port: number;
  readonly events: HostStreamEvents;

  constructor(host: string, port: number, events: HostStreamEvents) {
    this.host = host;
    this.port = port;
    this.events = events;
  }

  write(bytes: Uint8Array): void {
    this.written.push(bytes);
    if (this.isSlow) this.queuedBytes += bytes.length;
  }

  drain(): void {
    this.queuedBytes = 0;
    this.events.onDrain();
  }

  end(): void {
    this.ended = true;
  }

  reset(): void {
    this.wasReset = true;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  get text(): string {
    return Buffer.concat(this.written).toString("latin1");
  }
}

/** A `Dial` and the streams that it has made. */
export function testDial(): { dial: Dial; streams: TestStream[] } {
  const streams: TestStream[] = [];
  return {
    streams,
    dial: (host, port, events) => {
      const stream = new TestStream(host, port, events);
      streams.push(stream);
      return stream;
    },
  };
}
