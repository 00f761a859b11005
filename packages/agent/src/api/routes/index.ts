/** All that the agent answers to. */
import type { Route } from "../route.ts";
import { AGENT_ROUTES } from "./agent.ts";
import { CONTROL_ROUTES } from "./control.ts";
import { DOMAIN_ROUTES } from "./domains.ts";
import { LINE_ROUTES } from "./lines.ts";
import { OPERATION_ROUTES } from "./operations.ts";

export const ROUTES: readonly Route[] = [
  ...AGENT_ROUTES,
  ...DOMAIN_ROUTES,
  ...CONTROL_ROUTES,
  ...OPERATION_ROUTES,
  ...LINE_ROUTES,
];
