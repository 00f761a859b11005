/** Another agent, as one that sends a domain sees it: it makes a place, and stops where a test wants it to. */
import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Socket } from "node:net";
import { RecordReader, RecordType, RecordWriter } from "@xenoserver/toolstack/save/records.ts";

export type StopsAt =
  /** Takes nothing of what is sent. */
  | "memory"
  /** Takes all, and does not say that it is ready. */
  | "ready"
  /** Says that it is ready, and nothing once it was told to run the domain. */
  | "commit";

export class Receiver {
  /** Settles when it has come so far. */
  readonly stopped: Promise<void>;
  /** Paths that were asked for, as "POST /v1/domains". */
  readonly asked: string[] = [];
  readonly socket: string;
  readonly #agent = createHttpServer();
  readonly #line = createServer();
  #link: Socket | undefined;

  private constructor(path: string, stopsAt: StopsAt) {
    this.socket = path;
    this.#agent.on("request", (request, response) => {
      const target = `${request.method} ${request.url}`;
      this.asked.push(target);
      const isThere = target !== "GET /v1/domains/7/arrival";
      const body = isThere ? { domid: 7, socket: `${path}.line` } : { error: "it is not here" };
      request.resume().on("end", () => response.writeHead(isThere ? 200 : 404).end(JSON.stringify(body)));
    });
    this.stopped = new Promise((resolve, reject) => {
      this.#line.once("connection", (link: Socket) => {
        this.#link = link;
        link.on("error", () => {});
        take(link, stopsAt).then(resolve, reject);
      });
    });
    this.stopped.catch(() => {});
  }

  static async listen(path: string, stopsAt: StopsAt): Promise<Receiver> {
    const receiver = new Receiver(path, stopsAt);
    await once(receiver.#agent.listen(path), "listening");
    await once(receiver.#line.listen(`${path}.line`), "listening");
    return receiver;
  }

  /** Cuts the line. */
  cut(): void {
    this.#link?.destroy();
  }

  close(): void {
    this.cut();
    this.#agent.closeAllConnections();
    this.#agent.close();
    this.#line.close();
    for (const path of [this.socket, `${this.socket}.line`]) rmSync(path, { force: true });
  }
}

async function take(link: Socket, stopsAt: StopsAt): Promise<void> {
  if (stopsAt === "memory") return;
  const records = await RecordReader.ofStream("the domain", link);
  const answers = new RecordWriter(link, false);
  const until = async (wanted: number): Promise<void> => {
    for (;;) {
      const { type } = await records.next();
      if (type === wanted) return;
      // Nothing shall go along, and what came is loaded at once.
      if (type === RecordType.config) await answers.write(RecordType.placed, Buffer.from('{"disks":[]}'));
      if (type === RecordType.sync) await answers.write(RecordType.synced, new Uint8Array());
    }
  };
  await until(RecordType.end);
  if (stopsAt === "ready") return;
  await answers.write(RecordType.ready, new Uint8Array());
  await until(RecordType.commit);
}
