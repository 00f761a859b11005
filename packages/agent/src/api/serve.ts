/** Answers requests: finds the route, holds what was sent against its schemas, and gives what it answers. */
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { AgentError } from "../home.ts";
import { unwatched, type Work } from "../operations/work.ts";
import { jsonOf, queryOf, textOf } from "./body.ts";
import { refuseBrowsers } from "./browsers.ts";
import { Idempotency } from "./idempotency.ts";
import type { KeptAnswer } from "./key-table.ts";
import { match, urlOf } from "./match.ts";
import { bodyOf, etagOf, isKnown, Preconditions } from "./preconditions.ts";
import { type Preference, preferenceOf } from "./prefer.ts";
import type { Agent, Call, GetRoute, PostRoute, Route } from "./route.ts";
import { ROUTES } from "./routes/index.ts";
import { statusOf } from "./status.ts";
import { checkedBy } from "./validate.ts";

const JSON_TYPE = "application/json";

/** @throws AgentError  a parameter is not as it should be */
export const queryOfRoute = ({ query }: Route, url: URL): unknown =>
  query === undefined ? undefined : checkedBy(query, queryOf(url.searchParams), "query");

export class Api {
  readonly #agent: Agent;
  readonly #preconditions: Preconditions;
  readonly #idempotency: Idempotency;
  readonly #routes = ROUTES.filter((route) => route.kind !== "line");

  constructor(agent: Agent) {
    this.#agent = agent;
    this.#preconditions = new Preconditions(agent.supervisor);
    this.#idempotency = new Idempotency(agent.supervisor);
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.#answer(request, response);
    } catch (error) {
      if (response.headersSent) return void response.destroy();
      const status = statusOf(error);
      const { message, stack } = error as Error;
      send(response, { status, headers: {}, body: bodyOf({ error: status === 500 ? String(stack) : message }) });
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    refuseBrowsers(request);
    const { method = "GET" } = request;
    const url = urlOf(request);
    const { route, ref } = match(this.#routes, method, url.pathname);
    const call: Call = { ...this.#agent, ref, query: queryOfRoute(route, url), body: undefined };
    if (route.kind === "raw") return route.respond(call, request, response);
    if (route.method === "POST") return this.#post(route, call, request, response);
    send(response, await this.#get(route, call, request));
  }

  async #get(route: GetRoute, call: Call, { headers }: IncomingMessage): Promise<KeptAnswer> {
    const body = bodyOf(await route.answer(call));
    if (route.isTagged !== true) return { status: 200, headers: {}, body };
    const etag = etagOf(body);
    const tagged = { etag, "cache-control": "no-cache" };
    if (isKnown(headers["if-none-match"], etag)) return { status: 304, headers: tagged, body: "" };
    return { status: 200, headers: tagged, body };
  }

  async #post(route: PostRoute, call: Call, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { headers } = request;
    const text = await textOf(request);
    const body = checkedBy(route.body, jsonOf(text), "body");
    const preference = preferenceOf(headers["prefer"]);
    const key = headers["idempotency-key"];
    const workId = randomUUID();
    const act = (): Promise<KeptAnswer> => this.#act(route, { ...call, body }, workId, preference, headers["if-match"]);
    if (key === undefined) return send(response, await act());
    const { isRepeated, ...given } = await this.#idempotency.once(
      { key: String(key), route, target: `${request.method} ${request.url}`, text },
      workId,
      act,
    );
    send(response, isRepeated ? { ...given, headers: { ...given.headers, "idempotency-replayed": "true" } } : given);
  }

  async #act(
    route: PostRoute,
    call: Call,
    id: string,
    preference: Preference,
    ifMatch: string | undefined,
  ): Promise<KeptAnswer> {
    const slow = preference.isAsync ? route.slow?.(call.body) : undefined;
    const isOfDomain = route.path.startsWith("/v1/domains/{ref}");
    if (ifMatch !== undefined && !isOfDomain && route.path !== "/v1/domains")
      throw new AgentError(400, "If-Match is there, expected none: this has no ETag");
    if (slow !== undefined && isOfDomain) call.supervisor.mustHave(call.ref);
    const release = await this.#preconditions.hold(ifMatch, call.ref);
    const run = async (work: Work): Promise<unknown> => {
      try {
        return await route.answer(call, work);
      } finally {
        release();
      }
    };
    if (slow === undefined) return { status: 200, headers: {}, body: bodyOf(await run(unwatched(id))) };
    const domain = isOfDomain ? { domain: call.ref } : {};
    const running = this.#agent.operations.begin(id, { ...slow, ...domain }, run);
    if (preference.waitSeconds !== undefined) await running.over(preference.waitSeconds * 1000);
    const { state, result, error } = running.operation;
    if (state === "succeeded") return { status: 200, headers: {}, body: bodyOf(result) };
    // Only who was ready to wait is told so in the answer; others read it in the operation.
    if (error !== undefined && preference.waitSeconds !== undefined) throw new AgentError(error.status, error.message);
    return {
      status: 202,
      headers: { location: `/v1/operations/${id}`, "preference-applied": "respond-async" },
      body: bodyOf(running.operation),
    };
  }
}

function send(response: ServerResponse, { status, headers, body }: KeptAnswer): void {
  const type = body === "" ? {} : { "content-type": JSON_TYPE };
  response.writeHead(status, { ...type, ...headers });
  response.end(body);
}
