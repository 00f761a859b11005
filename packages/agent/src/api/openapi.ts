/** The API's description in OpenAPI 3.1, made of the routes and their schemas. */
import { z } from "zod";
import type { LineRoute, Route } from "./route.ts";
import * as schemas from "./schema/index.ts";

type Json = Readonly<Record<string, unknown>>;

const VERSION = "1.0.0";
const REFUSALS: Readonly<Record<number, string>> = {
  400: "Something in the request is not as it should be.",
  403: "It comes from a page in a browser.",
  404: "What the path names is not there.",
  409: "It cannot be done in the present state; or a request with this Idempotency-Key is under way.",
  412: "It has changed since.",
  413: "The body is too long.",
  422: "The Idempotency-Key belongs to another request.",
  500: "The agent is at fault.",
  502: "Another server cannot be reached.",
};

export function openApiDocument(routes: readonly Route[]): Json & { readonly openapi: string } {
  const components = new Components();
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of routes) (paths[route.path] ??= {})[route.method.toLowerCase()] = describeRoute(route, components);
  return {
    openapi: "3.1.1",
    info: {
      title: "XenoServer agent",
      version: VERSION,
      summary: "The domains of one server",
      description:
        "HTTP/1.1 over a UNIX socket that only its user may open, or over TLS 1.3 with certificates on both sides.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    tags: ["agent", "domains", "operations"].map((name) => ({ name })),
    security: [{ certificate: [] }, {}],
    paths,
    components: {
      schemas: components.describe(),
      responses: Object.fromEntries(
        Object.entries(REFUSALS).map(([status, description]) => [
          `Refusal${status}`,
          { description, content: json(components.ref(schemas.ErrorAnswer, "ErrorAnswer")) },
        ]),
      ),
      securitySchemes: {
        certificate: {
          type: "mutualTLS",
          description: "Of the servers' own authority; not needed on the UNIX socket.",
        },
      },
    },
  };
}

/** Schemas by name: those of `schema/` have the names that they have there. */
class Components {
  readonly #registry = z.registry<{ id: string }>();

  constructor() {
    for (const [id, schema] of Object.entries(schemas))
      if (schema instanceof z.ZodType && !this.#registry.has(schema)) this.#registry.add(schema, { id });
  }

  /** @param otherwise  its name, if it has none yet */
  ref(schema: z.ZodType, otherwise: string): Json {
    if (!this.#registry.has(schema)) this.#registry.add(schema, { id: otherwise });
    return { $ref: refTo(this.#registry.get(schema)!.id) };
  }

  describe(): Json {
    const described = z.toJSONSchema(this.#registry, { uri: refTo, io: "input", override: withoutNoise }).schemas;
    return Object.fromEntries(
      Object.entries(described).map(([id, { $schema: _, $id: __, ...schema }]) => [id, schema]),
    );
  }
}

const refTo = (id: string): string => `#/components/schemas/${id}`;

/** Bounds that all numbers in JSON have, and that names are text. */
function withoutNoise({ jsonSchema }: { jsonSchema: z.core.JSONSchema.BaseSchema }): void {
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
  if (jsonSchema.propertyNames !== undefined) delete jsonSchema.propertyNames;
}

const json = (schema: Json): Json => ({ "application/json": { schema } });
const nameOf = (id: string, part: string): string => `${id[0]!.toUpperCase()}${id.slice(1)}${part}`;

function describeRoute(route: Route, components: Components): Json {
  const { id, summary, path } = route;
  const body = route.method === "POST" ? components.ref(route.body, nameOf(id, "Body")) : undefined;
  return {
    operationId: id,
    summary,
    tags: [/^\/v1\/(domains|operations)/.exec(path)?.[1] ?? "agent"],
    parameters: parametersOf(route),
    ...(body !== undefined && { requestBody: { content: json(body) } }),
    responses: { ...answersOf(route, components), ...refusalsOf(route) },
  };
}

function parametersOf(route: Route): Json[] {
  const inPath = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    ...{ name, in: "path", required: true, schema: { type: "string" } },
    ...(name === "ref" && { description: "A domain's name or number." }),
  }));
  const header = (name: string, description: string): Json => ({
    ...{ name, in: "header", description, schema: { type: "string" } },
  });
  return [...inPath, ...queryParameters(route), ...headersOf(route).map(([name, text]) => header(name, text))];
}

function queryParameters({ query }: Route): Json[] {
  if (query === undefined) return [];
  const { properties = {}, required = [] } = z.toJSONSchema(query, { io: "input" });
  return Object.entries(properties).map(([name, property]) => {
    const { description, ...schema } = property as z.core.JSONSchema.BaseSchema;
    return {
      name,
      in: "query",
      required: required.includes(name),
      ...(description !== undefined && { description }),
      schema,
    };
  });
}

function headersOf(route: Route): [name: string, description: string][] {
  if (route.kind === "raw")
    return route.contentType === "text/event-stream" ? [["Last-Event-ID", "Resume behind this event."]] : [];
  if (route.kind === "line") return lineHeaders(route);
  if (route.method === "GET") return route.isTagged === true ? [["If-None-Match", "ETags that the client has."]] : [];
  return [
    ["Idempotency-Key", "Asked again with the same key within a day, it is done once, and answered as the first time."],
    ...(route.path.startsWith("/v1/domains")
      ? ([["If-Match", "ETags, one of which the domain, or the list, still has to have."]] as [string, string][])
      : []),
    ...(route.slow === undefined
      ? []
      : ([
          ["Prefer", "`respond-async` has it answered by an operation, `wait=SECONDS` beside it only after that time."],
        ] as [string, string][])),
  ];
}

const lineHeaders = ({ protocol, subprotocol }: LineRoute): [string, string][] => [
  ["Upgrade", subprotocol === undefined ? protocol : `${protocol}, or websocket`],
  ...(subprotocol === undefined ? [] : ([["Sec-WebSocket-Protocol", subprotocol]] as [string, string][])),
];

function answersOf(route: Route, components: Components): Json {
  if (route.kind === "line") return { 101: { description: `The connection becomes a line. ${route.describes}` } };
  if (route.kind === "raw") {
    const isStream = route.contentType === "text/event-stream";
    return {
      200: { description: route.describes, content: { [route.contentType]: { schema: { type: "string" } } } },
      ...(isStream && { 204: { description: "There is nothing more to come." } }),
    };
  }
  const tag = { ETag: { description: "Of this representation.", schema: { type: "string" } } };
  const isTagged = route.isTagged === true;
  const done = {
    description: "Done.",
    ...(isTagged && { headers: tag }),
    content: json(components.ref(route.result, nameOf(route.id, "Result"))),
  };
  const accepted = {
    description: "It goes on as an operation.",
    headers: { Location: { description: "Of the operation.", schema: { type: "string" } } },
    content: json(components.ref(schemas.Operation, "Operation")),
  };
  return {
    200: done,
    ...(route.method === "POST" && route.slow !== undefined && { 202: accepted }),
    ...(isTagged && { 304: { description: "The client has it already.", headers: tag } }),
  };
}

function refusalsOf(route: Route): Json {
  const statuses = new Set([400, 403, 500, ...(route.refusals ?? [])]);
  if (route.path.includes("{")) statuses.add(404);
  if (route.method === "POST") for (const status of [409, 413, 422]) statuses.add(status);
  if (route.method === "POST" && route.path.startsWith("/v1/domains")) statuses.add(412);
  return Object.fromEntries(
    [...statuses].sort((a, b) => a - b).map((status) => [status, { $ref: `#/components/responses/Refusal${status}` }]),
  );
}
