/** What is said over the agent's API, each thing once: these check requests, make the OpenAPI document, and are the types of clients. */
export * from "./agent.ts";
export * from "./domain.ts";
export * from "./operation.ts";
export * from "./requests.ts";
export * from "./usage.ts";
