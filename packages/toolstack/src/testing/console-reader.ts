/** The console of a domain in a process of its own, for tests. */
import assert from "node:assert/strict";
import type { ControlClient } from "../control/index.ts";

/** A console as a client sees it, and what it types. */
export class ConsoleReader {
  text = "";
  offset = 0;
  readonly client: ControlClient;
  #wake = Promise.withResolvers<void>();

  constructor(client: ControlClient) {
    this.client = client;
    client.onEvent = (event) => {
      if (event.event !== "console") return;
      assert.ok(event.offset >= this.offset);
      const bytes = Buffer.from(event.base64, "base64");
      this.offset = event.offset + bytes.length;
      this.text += bytes.toString("latin1");
      this.#wake.resolve();
      this.#wake = Promise.withResolvers();
    };
  }

  async until(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.text)) await this.#wake.promise;
  }

  /** Runs a command; its marks are written so that their echo does not look like them. */
  async run(command: string): Promise<string> {
    this.text = "";
    const line = `echo BE""GIN; ${command}; echo E""ND\n`;
    await this.client.call("console-write", { base64: Buffer.from(line).toString("base64") });
    await this.until(/BEGIN\r\n.*END\r\n/s);
    return /BEGIN\r\n(.*)END\r\n/s.exec(this.text)![1]!.replaceAll("\r", "").trim();
  }
}
