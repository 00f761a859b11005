/** The agent itself, and what all domains used. */
import { describeMetrics, METRICS_TYPE } from "../../metrics.ts";
import { openApiDocument } from "../openapi.ts";
import { get, post, type RawRoute, type Route } from "../route.ts";
import { AgentInfo, NoBody, Nothing, OpenApiDocument, UsageList } from "../schema/index.ts";

const metrics: RawRoute = {
  kind: "raw",
  method: "GET",
  id: "getMetrics",
  path: "/metrics",
  summary: "What runs, for Prometheus",
  contentType: METRICS_TYPE,
  describes: "Prometheus's text format 0.0.4.",
  async respond({ supervisor }, _request, response) {
    response.writeHead(200, { "content-type": METRICS_TYPE });
    response.end(describeMetrics(await supervisor.list()));
  },
};

export const AGENT_ROUTES: readonly Route[] = [
  get({
    id: "getAgent",
    path: "/v1/agent",
    summary: "The agent's process",
    result: AgentInfo,
    answer: () => ({ pid: process.pid, protocol: 1 as const }),
  }),
  post({
    id: "stopAgent",
    path: "/v1/agent/stop",
    summary: "End the agent; its domains stay",
    body: NoBody,
    result: Nothing,
    isRepeatable: true,
    answer({ stop }) {
      setImmediate(stop);
      return {};
    },
  }),
  get({
    id: "getOpenApi",
    path: "/v1/openapi.json",
    summary: "This document",
    result: OpenApiDocument,
    isTagged: true,
    answer: async () => openApiDocument((await import("./index.ts")).ROUTES),
  }),
  get({
    id: "getUsage",
    path: "/v1/usage",
    summary: "What each domain used and had reserved, those included that have ended",
    result: UsageList,
    answer: async ({ supervisor }) => ({ usage: await supervisor.usage() }),
  }),
  metrics,
];
