/** QEMU's own control socket. */
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { within } from "./within.ts";

const TRIES = 200;
/** QEMU answers at once, unless it is stuck. */
const ANSWER_SECONDS = 30;

export class Qmp {
  readonly #socket: Socket;
  #rest = "";
  #answer: PromiseWithResolvers<unknown> | undefined;
  #isGone = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes: Buffer) => this.#take(bytes.toString()));
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#isGone = true;
      this.#answer?.reject(gone());
    });
  }

  /** Waits until QEMU listens. */
  static async connect(path: string): Promise<Qmp> {
    for (let n = 0; ; n++) {
      const socket = await new Promise<Socket | undefined>((resolve) => {
        const tried = connect(path, () => resolve(tried));
        tried.once("error", () => resolve(undefined));
      });
      if (socket === undefined) {
        if (n === TRIES) throw new Error(`${path}: QEMU does not listen`);
        await sleep(50);
        continue;
      }
      const qmp = new Qmp(socket);
      await qmp.run("qmp_capabilities", {});
      return qmp;
    }
  }

  /** One at a time. @throws Error  QEMU refuses, has ended, or does not answer */
  run<T>(command: string, args: object): Promise<T> {
    if (this.#isGone) return Promise.reject(gone());
    this.#answer = Promise.withResolvers();
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    return within(ANSWER_SECONDS, `QEMU's answer to ${command}`, this.#answer.promise as Promise<T>);
  }

  close(): void {
    this.#answer = undefined;
    this.#socket.destroy();
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    for (const line of lines) {
      const message = JSON.parse(line) as { return?: unknown; error?: { desc: string } };
      // Its greeting and events are for nobody here.
      if (message.error !== undefined) this.#answer?.reject(new Error(message.error.desc));
      else if ("return" in message) this.#answer?.resolve(message.return);
    }
  }
}

const gone = (): Error => new Error("QEMU is gone");
