/** The document is one of OpenAPI, and says of each route that is served what is true of it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Validator } from "@seriousme/openapi-schema-validator";
import { match } from "./match.ts";
import { openApiDocument } from "./openapi.ts";
import { ROUTES } from "./routes/index.ts";

interface Operation {
  readonly operationId: string;
  readonly parameters: readonly { readonly in: string; readonly name: string }[];
  readonly requestBody?: unknown;
  readonly responses: Readonly<Record<string, unknown>>;
}
interface Document {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> };
}
const document = JSON.parse(JSON.stringify(openApiDocument(ROUTES))) as Document;
const described = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
);

describe("the OpenAPI document", () => {
  test("is valid OpenAPI 3.1", async () => {
    const validator = new Validator();
    const { valid, errors } = await validator.validate(structuredClone(document) as unknown as Record<string, unknown>);
    assert.ok(valid, JSON.stringify(errors, undefined, 1));
    assert.equal(validator.version, "3.1");
    const broken = structuredClone(document) as unknown as { paths: Record<string, unknown> };
    broken.paths["no-slash"] = {};
    assert.equal((await new Validator().validate(broken)).valid, false, "the validator finds faults");
  });

  test("has each route that is served, and no other", () => {
    const served = ROUTES.map(({ method, path }) => `${method} ${path}`).sort();
    assert.deepEqual(described.map(({ method, path }) => `${method} ${path}`).sort(), served);
    assert.equal(new Set(served).size, served.length, "no route is there twice");
    for (const { method, path, operation } of described) {
      const { route } = match(ROUTES, method, path.replace(/\{\w+\}/, "some"));
      assert.equal(route.id, operation.operationId);
    }
    assert.equal(new Set(described.map(({ operation }) => operation.operationId)).size, described.length);
  });

  test("names what a request can bring, and what it gets", () => {
    const namesOf = (path: string, method: string): string[] =>
      document.paths[path]![method]!.parameters.map((parameter) => `${parameter.in} ${parameter.name}`);
    const statusesOf = (path: string, method: string): string[] =>
      Object.keys(document.paths[path]![method]!.responses);
    assert.deepEqual(namesOf("/v1/domains/{ref}/migrate", "post"), [
      ...["path ref", "header Idempotency-Key", "header If-Match", "header Prefer"],
    ]);
    assert.deepEqual(statusesOf("/v1/domains/{ref}/migrate", "post"), [
      ...["200", "202", "400", "403", "404", "409", "412", "413", "422", "500", "502"],
    ]);
    assert.deepEqual(namesOf("/v1/domains", "get"), ["query view", "header If-None-Match"]);
    assert.deepEqual(statusesOf("/v1/domains", "get"), ["200", "304", "400", "403", "500"]);
  });

  test("has every schema that it points to, and lets nothing unknown into requests", () => {
    const text = JSON.stringify(document);
    const targets = [...text.matchAll(/"\$ref":"#\/components\/(\w+)\/(\w+)"/g)];
    const components = document.components as unknown as Record<string, Record<string, unknown>>;
    assert.deepEqual(
      targets.filter(([, kind, name]) => components[kind!]?.[name!] === undefined),
      [],
    );
    assert.equal(
      (document.components.schemas["ForkDomain"] as { additionalProperties: unknown }).additionalProperties,
      false,
    );
    assert.ok(!text.includes("readOnly") && !text.includes(String(Number.MAX_SAFE_INTEGER)));
  });
});
