/** What a route of the API is: how it is asked for, by which schemas, and who answers. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { z } from "zod";
import type { OperationRegistry } from "../operations/registry.ts";
import type { Work } from "../operations/work.ts";
import type { Supervisor } from "../supervisor.ts";
import type { OperationKind } from "./schema/index.ts";
import type { Deep } from "./schema/same.ts";

/** What routes act on. */
export interface Agent {
  readonly supervisor: Supervisor;
  readonly operations: OperationRegistry;
  /** Ends the agent, once it has answered. */
  stop(): void;
}

export interface Call<Body = unknown, Query = unknown> extends Agent {
  /** What stands in the path for `{ref}`, `{id}` or `{domid}`. */
  readonly ref: string;
  readonly body: Body;
  readonly query: Query;
}

interface About {
  /** Of the OpenAPI document, and of the method in clients that are made from it. */
  readonly id: string;
  /** With names in braces: "/v1/domains/{ref}". */
  readonly path: string;
  readonly summary: string;
  readonly query?: z.ZodObject;
  /** Statuses of refusals beside those that any route may have. */
  readonly refusals?: readonly number[];
}

interface JsonAnswer extends About {
  readonly kind: "json";
  readonly result: z.ZodType;
  /** Its answer has an ETag. */
  readonly isTagged?: boolean;
}
export interface GetRoute extends JsonAnswer {
  readonly method: "GET";
  answer(call: Call): Promise<unknown> | unknown;
}
export interface PostRoute extends JsonAnswer {
  readonly method: "POST";
  readonly body: z.ZodType;
  /** Of a route whose work can go on behind its answer: what kind of operation that is. */
  slow?(body: unknown): Slow | undefined;
  /** Doing it twice does no more than doing it once. */
  readonly isRepeatable?: boolean;
  answer(call: Call, work: Work): Promise<unknown> | unknown;
}
export interface Slow {
  readonly kind: OperationKind;
  readonly canCancel: boolean;
}

/** Answers by itself, in another form than JSON. */
export interface RawRoute extends About {
  readonly kind: "raw";
  readonly method: "GET";
  readonly contentType: string;
  readonly describes: string;
  respond(call: Call, request: IncomingMessage, response: ServerResponse): Promise<void> | void;
}

/** A connection that stays. */
export interface LineRoute extends About {
  readonly kind: "line";
  readonly method: "GET";
  /** What `Upgrade` has to name. */
  readonly protocol: string;
  /** Of the WebSocket that is there beside it. */
  readonly subprotocol?: string;
  readonly describes: string;
  serve(call: Call, open: OpenLine): Promise<void>;
}
/** Says yes to the client; until then the route may throw. */
export type OpenLine = () => Promise<Duplex>;

export type Route = GetRoute | PostRoute | RawRoute | LineRoute;

type Typed<R, B, Q> = Omit<R, "body" | "query" | "answer" | "slow" | "result"> & {
  readonly query?: Q;
  readonly body?: B;
};
type Out<S> = S extends z.ZodType ? z.output<S> : undefined;

/** A route with GET whose answer has to be what its schema says. */
export function get<R extends z.ZodType, Q extends z.ZodObject = z.ZodObject>(
  route: Omit<Typed<GetRoute, never, Q>, "kind" | "method" | "body"> & {
    readonly result: R;
    answer(call: Call<undefined, Out<Q>>): Promise<Deep<z.output<R>>> | Deep<z.output<R>>;
  },
): GetRoute {
  return { kind: "json", method: "GET", ...route } as unknown as GetRoute;
}

export function post<B extends z.ZodType, R extends z.ZodType>(
  route: Omit<Typed<PostRoute, B, never>, "kind" | "method" | "body" | "query"> & {
    readonly body: B;
    readonly result: R;
    slow?(body: z.output<B>): Slow | undefined;
    answer(call: Call<z.output<B>>, work: Work): Promise<Deep<z.output<R>>> | Deep<z.output<R>>;
  },
): PostRoute {
  return { kind: "json", method: "POST", ...route } as unknown as PostRoute;
}
