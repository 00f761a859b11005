/** The agent of a server: starts, finds, meters and ends its domains. */
export { AgentClient, type RemoteAgent } from "./client.ts";
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
export type { UsageSum } from "./journal.ts";
export { type RunningAgent, startAgent } from "./server.ts";
export { credentialsOf, parseEndpoint } from "./tls/credentials.ts";
