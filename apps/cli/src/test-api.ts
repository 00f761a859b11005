/** An agent of a test's own, whose answers are held against its OpenAPI document. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import type { IncomingHttpHeaders } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient, type AgentHome, agentHome, openApi } from "@xenoserver/agent/index.ts";
import { Ajv2020 } from "ajv/dist/2020.js";
import { xeno } from "./test-process.ts";

export interface Answer<T = unknown> {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: T;
}
type Headers = Readonly<Record<string, string>>;

interface Described {
  readonly responses: Readonly<Record<string, { readonly content?: unknown; readonly $ref?: string }>>;
}
const document = JSON.parse(JSON.stringify(await openApi())) as {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Described>>>>;
};
const ajv = new Ajv2020({ strict: false, validateFormats: false });
ajv.addSchema(document, "api");

/** Fails unless an answer is what the document says of it. */
export function checkAnswer(method: string, pathname: string, { status, body }: Answer): void {
  const path = Object.keys(document.paths).find((template) => {
    const pattern = new RegExp(`^${template.replace(/\{\w+\}/g, "[^/]+")}$`);
    return pattern.test(pathname) && document.paths[template]![method.toLowerCase()] !== undefined;
  });
  if (path === undefined) return assert.ok(status === 404 || status === 405, `${method} ${pathname}: ${status}`);
  const responses = document.paths[path]![method.toLowerCase()]!.responses;
  const response = responses[status];
  assert.ok(response !== undefined, `${method} ${path} answers ${status}, which is not in the document`);
  const pointer = (response.$ref ?? `#/paths/${path.replaceAll("/", "~1")}/${method.toLowerCase()}/responses/${status}`)
    .replaceAll("{", "%7B")
    .replaceAll("}", "%7D");
  if (response.$ref === undefined && response.content === undefined) return;
  const validate = ajv.compile({ $ref: `api${pointer}/content/application~1json/schema` });
  assert.ok(validate(body), `${method} ${path}: ${JSON.stringify(validate.errors)}\n${JSON.stringify(body)}`);
}

export class TestAgent {
  readonly env: Headers;
  readonly home: AgentHome;
  readonly client: AgentClient;
  readonly #folder: string;

  private constructor(name: string) {
    this.#folder = mkdtempSync(join(tmpdir(), `xeno-${name}-`));
    this.env = { XENO_AGENT_HOME: this.#folder };
    this.home = agentHome(this.env);
    this.client = new AgentClient(this.home.socket);
  }

  static async start(name: string): Promise<TestAgent> {
    const agent = new TestAgent(name);
    await agent.restart();
    return agent;
  }

  async restart(): Promise<void> {
    const { status, stderr } = await xeno(["list"], { env: this.env });
    assert.equal(status, 0, stderr);
  }

  async kill(): Promise<void> {
    const { pid } = await this.client.get<{ pid: number }>("/v1/agent");
    process.kill(pid, "SIGKILL");
    while (await this.client.isThere()) await sleep(10);
  }

  /** Ends all, and removes the folder. */
  async end(): Promise<void> {
    const { domains } = await this.client.get<{ domains: { name: string }[] }>("/v1/domains");
    for (const { name } of domains) await this.client.post(`/v1/domains/${name}/destroy`);
    await this.client.post("/v1/agent/stop");
    while (await this.client.isThere()) await sleep(10);
    rmSync(this.#folder, { recursive: true });
  }

  async ask<T = unknown>(method: string, path: string, body?: unknown, headers: Headers = {}): Promise<Answer<T>> {
    const response = await this.client.ask(method, path, { headers, body });
    let text = "";
    for await (const piece of response) text += String(piece);
    const answer = {
      status: response.statusCode!,
      headers: response.headers,
      body: (text === "" ? undefined : JSON.parse(text)) as T,
    };
    checkAnswer(method, new URL(path, "http://agent").pathname, answer);
    return answer;
  }
  get<T = unknown>(path: string, headers: Headers = {}): Promise<Answer<T>> {
    return this.ask<T>("GET", path, undefined, headers);
  }
  post<T = unknown>(path: string, body: unknown = {}, headers: Headers = {}): Promise<Answer<T>> {
    return this.ask<T>("POST", path, body, headers);
  }
}
