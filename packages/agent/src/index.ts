/** The agent of a server: starts, finds, meters and ends its domains. */
import type { AgentHome } from "./home.ts";
import type { RunningAgent } from "./server.ts";

export type * from "./api/schema/index.ts";
export { AgentClient, AgentLost, type RemoteAgent } from "./client.ts";
export {
  encodeFrame,
  type Frame,
  FromDomain,
  MAX_FRAME_BYTES,
  readFrames,
  ToDomain,
  writeFrame,
} from "./exec-stream.ts";
export { GuestSession, type GuestStreams } from "./guest-session.ts";
export { AgentError, type AgentHome, agentHome } from "./home.ts";
export { eventsOf, type Following, operate } from "./operation-client.ts";
export type { OperationEvent } from "./operations/running.ts";
export type { RunningAgent } from "./server.ts";
export { credentialsOf, parseEndpoint } from "./tls/credentials.ts";

/** Clients do not load what only an agent needs. @throws AgentError  another agent runs in this folder */
export async function startAgent(home: AgentHome): Promise<RunningAgent> {
  const server = await import("./server.ts");
  return server.startAgent(home);
}

/** The API's description in OpenAPI 3.1. */
export async function openApi(): Promise<unknown> {
  const [{ openApiDocument }, { ROUTES }] = await Promise.all([
    import("./api/openapi.ts"),
    import("./api/routes/index.ts"),
  ]);
  return openApiDocument(ROUTES);
}
